"""docs/protocol.md shows the tables that the code runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdbox.protocol.docs import BEGIN, END, renewed, tables
from sdbox.protocol.states import BOX_RECEIVES, GATEWAY_RECEIVES

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert renewed(text) == text, "run: python -m sdbox.protocol.docs docs/protocol.md"


def test_every_row_of_the_state_tables_is_shown() -> None:
    shown = tables()
    for (state, kind), following in (*GATEWAY_RECEIVES.items(), *BOX_RECEIVES.items()):
        assert f"| {state} | {kind.__struct_config__.tag} | {following} |" in shown


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_document_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="markers"):
        renewed(text)
