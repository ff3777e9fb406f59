"""Boxes whose image, firmware settings or TPM was changed: each is refused for its own reason, on its screen and in the
gateway's record. The changes are those of the recorded corpus; a whole run of it boots each by itself
(`python -m sdbox.bench.corpus`), here several that different checks catch share a boot.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sdbox.bench.changed import Outcome, power_on
from sdbox.bench.changes import together
from sdbox.bench.lab import Lab
from sdbox.bench.stand import BOX, development_tpm
from sdbox.image.build import BuiltImage
from sdbox.qemu.tpm import manufacture

from .conftest import Desk, gateway_with
from .test_link_refusals import see_refusal

pytestmark = [pytest.mark.system, pytest.mark.root]
BOOTS = (
    ("ignored",),
    ("secure-boot-off",),
    ("foreign-key", "extension"),
    ("grown-dbx", "addon"),
)


@pytest.mark.parametrize("names", BOOTS, ids="+".join)
def test_a_changed_box(image: BuiltImage, lab: Lab, tmp_path: Path, pictures: Path, names: tuple[str, ...]) -> None:
    change = together(names)
    outcome = power_on(lab, image, change, tmp_path, pictures / f"changed-{'-'.join(names)}")
    assert outcome.fits(change), f"{outcome}, expected {change.code} for {change.odd}"


def last_refusal(lab: Lab) -> Outcome:
    event = [event for event in lab.gateway.events() if event["event"] == "refused"][-1]
    return Outcome(event["reason"], tuple(event.get("detail", "").split()))


def test_an_image_below_the_minimum(desk: Desk, lab: Lab, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"minimum_image_version": 2}))
    with gateway_with(lab, dataclasses.replace(lab.gateway.settings, policy=policy)):
        assert see_refusal(desk, lab, "older-image") == "box-image"
    assert last_refusal(lab) == Outcome("box-image", ("30:image-version",))


def test_another_tpm_on_the_board(desk: Desk, lab: Lab, tmp_path: Path) -> None:
    """The inventory knows another TPM under this box's name: this one can not open the credential made for that."""
    lab.gateway.forget(BOX)
    lab.gateway.enrol(BOX, manufacture(tmp_path / "tpm", tmp_path / "maker"))
    try:
        assert see_refusal(desk, lab, "other-tpm") == "box-activation"
        assert lab.gateway.events()[-1].get("detail") == "5:credential without an answer"
    finally:
        lab.gateway.forget(BOX)
        lab.gateway.enrol(BOX, development_tpm())
