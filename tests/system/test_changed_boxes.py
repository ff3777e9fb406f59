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
from sdbox.bench.changes import CHANGES, together
from sdbox.bench.lab import Lab
from sdbox.bench.stand import BOX, development_tpm
from sdbox.boot.reference import compute_reference, load_keys, write_reference
from sdbox.image.build import BuiltImage
from sdbox.image.ovmf import OWNER
from sdbox.image.request import SigningKey, development_keys
from sdbox.image.variants import another_version
from sdbox.qemu.tpm import manufacture

from .conftest import Desk, gateway_with
from .test_link_refusals import see_refusal

pytestmark = [pytest.mark.system, pytest.mark.root]
BOOTS = (
    ("ignored",),
    ("secure-boot-off", "configuration"),
    ("foreign-key", "extension"),
    ("grown-dbx", "addon"),
    ("foreign-owner", "other-firmware", "command-line", "credential"),
    ("microcode-old",),
)


@pytest.mark.parametrize("names", BOOTS, ids="+".join)
def test_a_changed_box(image: BuiltImage, lab: Lab, tmp_path: Path, pictures: Path, names: tuple[str, ...]) -> None:
    change = together(names)
    outcome = power_on(lab, image, change, tmp_path, pictures / f"changed-{'-'.join(names)}")
    assert outcome.fits(change), f"{outcome}, expected {change.code} for {change.odd}"


@pytest.mark.parametrize("name", ["addon-words", "option-words"])
def test_a_box_that_its_initrd_stops(image: BuiltImage, lab: Lab, tmp_path: Path, pictures: Path, name: str) -> None:
    """Its code is on the console only: no agent starts that could show it, and the gateway hears nothing of the box."""
    before = len(lab.gateway.events())
    change = CHANGES[name]
    outcome = power_on(lab, image, change, tmp_path, pictures / f"changed-{name}")  # which sees that no agent starts
    assert outcome.fits(change), f"{outcome}, expected {change.code}"
    assert lab.gateway.events()[before:] == []


def last_refusal(lab: Lab) -> Outcome:
    event = [event for event in lab.gateway.events() if event["event"] == "refused"][-1]
    return Outcome(event["reason"], tuple(event.get("detail", "").split()))


def test_an_image_below_the_minimum(desk: Desk, lab: Lab, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"minimum_image_version": 2}))
    with gateway_with(lab, dataclasses.replace(lab.gateway.settings, policy=policy)):
        assert see_refusal(desk, lab, "older-image") == "box-image"
    assert last_refusal(lab) == Outcome("box-image", ("30:image-version",))


def test_the_image_before(desk: Desk, lab: Lab, image: BuiltImage, tmp_path: Path) -> None:
    """The box still boots it, as it is signed by us; the centre has taken it out of its references."""
    keys = development_keys()
    newer = another_version(image, SigningKey.named(keys, "db"), tmp_path / "newer.efi", version="2")
    values = compute_reference(newer, load_keys(keys, str(OWNER)), image_version="2", profile=image.profile.value)
    write_reference(values, tmp_path / "newer.json")
    with gateway_with(lab, dataclasses.replace(lab.gateway.settings, reference=tmp_path / "newer.json")):
        assert see_refusal(desk, lab, "image-before") == "box-image"
    refused = last_refusal(lab)
    assert (refused.screen, set(refused.record)) == ("box-image", {"22:pcr-4", "23:pcr-11"})


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
