"""The processor's microcode revision, measured before the root, reaches the centre: too old is refused, by name."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from sdbox.bench.lab import Lab
from sdbox.bench.lab_gateway import GatewaySettings
from sdbox.bench.stand import MICROCODE, Card

from .conftest import Desk, gateway_with
from .test_link_refusals import NEW_CODE, RECONNECT_SECONDS

pytestmark = [pytest.mark.system, pytest.mark.root]
MEASURED = re.compile(r"(?P<processor>[0-9a-f]{8}):0x(?P<revision>[0-9a-f]+)")


def wanting(lab: Lab, least: dict[str, int], path: Path) -> GatewaySettings:
    """Return the gateway's settings with these least revisions."""
    path.write_text(json.dumps({"microcode": least}))
    return dataclasses.replace(lab.gateway.settings, policy=path)


def last(lab: Lab, event: str) -> dict[str, str]:
    """Return the newest entry of this event in the gateway's record."""
    entries: list[dict[str, str]] = [json.loads(line) for line in lab.gateway.admin("audit").splitlines()]
    return [entry for entry in entries if entry.get("event") == event][-1]


def test_microcode_below_the_minimum_is_refused_and_at_the_minimum_accepted(
    desk: Desk, lab: Lab, tmp_path: Path
) -> None:
    boot = MEASURED.search(last(lab, "attested")["remarks"])
    assert boot is not None
    processor = boot["processor"]
    assert int(boot["revision"], 16) == MICROCODE
    with (
        gateway_with(lab, wanting(lab, {processor: MICROCODE + 1}, tmp_path / "newer.json")),
        desk(Card("piv")) as hands,
    ):
        assert hands.machine.console.wait(NEW_CODE, RECONNECT_SECONDS)["code"] == "box-microcode"
        hands.see(["refused"], picture="microcode-old")
        refused = last(lab, "refused")
        assert (refused["reason"], refused["detail"]) == ("box-microcode", f"27:microcode ({boot[0]})")
        lab.gateway.start(wanting(lab, {processor: MICROCODE}, tmp_path / "same.json"))
        hands.wait_back()
        assert last(lab, "attested")["remarks"] == f"OVMF; {boot[0]}"
