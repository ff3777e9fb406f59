"""What the box does when the centre refuses it, is not the centre, or is not there: it says so and opens nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from sdbox.bench.lab import Lab
from sdbox.bench.stand import BOX, Card, development_tpm
from sdbox.host.pki import ensure_development_pki
from sdbox.image.build import BuiltImage

from .conftest import Desk, gateway_with

pytestmark = [pytest.mark.system, pytest.mark.root]
RECONNECT_SECONDS = 90.0
NEW_CODE = r"sdbox-refused (?P<code>(?!gateway-unreachable)[a-z-]+)"  # a restored box rests in gateway-unreachable


def see_refusal(desk: Desk, lab: Lab, picture: str) -> str:
    """Return the code that a restored box shows when it reconnects; a card that is then inserted changes nothing."""
    with desk(Card("piv")) as hands:
        code = hands.machine.console.wait(NEW_CODE, RECONNECT_SECONDS)["code"]
        hands.see(["refused"], picture=picture)
        hands.insert(["refused"])
        assert hands.last_code() == code
        assert not [text for text, _ in hands.card.events() if text.startswith(("sensor", "asked", "verify"))]
    assert lab.peers() == 0
    return code


def test_a_gateway_of_another_authority_is_refused_by_the_box(desk: Desk, lab: Lab, tmp_path: Path) -> None:
    other = ensure_development_pki(tmp_path / "other-pki")
    settings = dataclasses.replace(
        lab.gateway.settings, certificate=other.certificate("gateway"), key=other.key("gateway")
    )
    with gateway_with(lab, settings):
        assert see_refusal(desk, lab, "other-authority") == "gateway-untrusted"


def test_a_box_that_is_not_enrolled_is_refused(desk: Desk, lab: Lab) -> None:
    lab.gateway.forget(BOX)
    try:
        assert see_refusal(desk, lab, "not-enrolled") == "box-unknown"
    finally:
        lab.gateway.enrol(BOX, development_tpm())


def test_a_pcr_that_differs_is_refused(desk: Desk, lab: Lab, image: BuiltImage, tmp_path: Path) -> None:
    reference = msgspec.json.decode(image.reference.read_bytes())
    reference["pcrs"]["sha256"]["11"] = "00" * 32
    changed = tmp_path / "reference.json"
    changed.write_bytes(msgspec.json.encode(reference))
    with gateway_with(lab, dataclasses.replace(lab.gateway.settings, reference=changed)):
        assert see_refusal(desk, lab, "pcr-differs") == "box-image"


def test_a_gateway_that_is_down_is_told_and_heals(desk: Desk, lab: Lab) -> None:
    lab.gateway.stop()
    try:
        with desk(Card("piv")) as hands:
            hands.machine.console.wait("sdbox-refused gateway-unreachable", RECONNECT_SECONDS)
            hands.see(["refused"], picture="gateway-down")
            lab.gateway.start()
            hands.wait_back()
    finally:
        lab.gateway.stop()
        lab.gateway.start()
