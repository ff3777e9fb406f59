"""Documents that are generated, or that link to what exists."""

from __future__ import annotations

import re

import pytest

from sdbox.attestation import codes
from sdbox.protocol import docs_reasons
from sdbox.protocol.explanations import EXPLANATIONS
from sdbox.protocol.reasons import Reason
from tests.gates.tree import ROOT, files, name

DOCUMENTS = [name(path) for path in files() if path.suffix == ".md"]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def test_each_reason_is_explained_in_both_languages() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert all(text.french and text.english and text.hint for text in EXPLANATIONS.values())


def test_the_list_of_reasons_is_the_code_s() -> None:
    written = ROOT.joinpath("docs", "reasons.md").read_text(encoding="utf-8")
    assert written == docs_reasons.render(), "run: python -m sdbox.protocol.docs_reasons > docs/reasons.md"


def test_the_table_of_checks_is_the_code_s() -> None:
    text = ROOT.joinpath("docs", "attestation.md").read_text(encoding="utf-8")
    assert codes.table() in text, "put the output of python -m sdbox.attestation.codes into docs/attestation.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    assert [target for target in targets if not path.parent.joinpath(target).exists()] == []


def test_the_threat_model_speaks_of_what_is_there() -> None:
    text = ROOT.joinpath("docs", "threat-model.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| S(\d+) \|", text, flags=re.MULTILINE) == [str(number) for number in range(1, 13)]
    places = re.findall(r"`([^`]+/[^`]+)`", text)
    assert [place for place in places if not ROOT.joinpath(place).exists()] == []
