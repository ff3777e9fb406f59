"""`sdbox card probe`: a card of a known kind, and the draft of an unknown one's file. Neither costs a try (S7)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import Pcscd, running_pcscd
from sdbox.smartcard.variants import read_variant, variant_named
from sdbox.smartcard.virtual.faults import UNKNOWN_ATR
from tests.service.smartcard_bench import run

pytestmark = pytest.mark.root
COMMAND = (sys.executable, "-m", "sdbox.smartcard.cli")


@pytest.fixture(scope="module")
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


def test_probe_knows_a_known_card(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "piv") as card:
        card.insert()
        seen = json.loads(run(*COMMAND, "probe", "--json").stdout)
        assert (seen["variant"], seen["fitting"]) == ("piv", ["piv"])
        assert "piv" in seen["applications"][variant_named("piv").aid].split(", ")
        assert card.verifies == 0


def test_probe_drafts_the_file_of_an_unknown_card(pcscd: Pcscd, tmp_path: Path) -> None:
    with emulated_card(pcscd, "sc-hsm-bio", options=["--fault", "unknown"]) as card:
        card.insert()
        done = run(*COMMAND, "probe", check=False)
        assert (done.returncode, card.verifies) == (1, 0)
        assert UNKNOWN_ATR.hex().upper() in done.stderr
        file = tmp_path / "new-card.toml"
        file.write_text(done.stdout)
        drafted = read_variant(file)
        assert drafted.atrs[0].matches(UNKNOWN_ATR)
        assert drafted.aid == variant_named("sc-hsm-bio").aid
