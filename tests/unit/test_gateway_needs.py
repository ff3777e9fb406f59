"""What a bubble may ask of a box: each claim alone keeps a box out that lacks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdbox.attestation.ear import Subject
from sdbox.attestation.verdict import Failure, Verdict
from sdbox.boot.microcode import Microcode
from sdbox.gateway.needs import Needs
from sdbox.gateway.verifier import Judgement, describe
from tests.unit.attestation_factory import BOX

SUBJECT = Subject(BOX, "", "", "", image_version="7", profile="production", hardware=True)
PASSED = Verdict((), model="Bench Q35", microcode=Microcode(0x306A9, 0x21))
RESULT = Judgement(PASSED, SUBJECT)
ALL = Needs(
    image_profile="production",
    minimum_image_version=7,
    hardware=True,
    models=("Other", "Bench Q35"),
    microcode={"000306a9": 0x21},
)

LACKING = {
    "image_profile": replace(RESULT, subject=replace(SUBJECT, profile="debug")),
    "minimum_image_version": replace(RESULT, subject=replace(SUBJECT, image_version="6")),
    "hardware": replace(RESULT, subject=replace(SUBJECT, hardware=False)),
    "models": replace(RESULT, verdict=replace(PASSED, model="")),
    "microcode": replace(RESULT, verdict=replace(PASSED, microcode=Microcode(0x306A9, 0x20))),
    "result": replace(RESULT, verdict=replace(PASSED, failures=(Failure(28, "internal", ""),))),
}


def test_a_box_with_every_claim_may_enter() -> None:
    assert ALL.unmet(RESULT) == ""
    assert Needs().unmet(LACKING["models"]) == ""


@pytest.mark.parametrize(("claim", "result"), LACKING.items(), ids=LACKING.keys())
def test_a_box_without_a_claim_stays_out(claim: str, result: Judgement) -> None:
    assert ALL.unmet(result) == claim


@pytest.mark.parametrize("measured", [None, Microcode(0x306C3, 0x99)], ids=["not measured", "another processor"])
def test_a_processor_that_is_not_listed_stays_out(measured: Microcode | None) -> None:
    assert ALL.unmet(replace(RESULT, verdict=replace(PASSED, microcode=measured))) == "microcode"


@pytest.mark.parametrize("version", ["", "7a", "-7", "٧"])
def test_a_version_that_is_no_number_is_older_than_any(version: str) -> None:
    result = replace(RESULT, subject=replace(SUBJECT, image_version=version))
    assert ALL.unmet(result) == "minimum_image_version"


def test_the_record_says_which_revision_was_too_old() -> None:
    failure = Failure(27, "microcode", "")
    assert describe(replace(PASSED, failures=(failure,))) == "27:microcode (000306a9:0x21)"
    assert describe(Verdict((failure,))) == "27:microcode"
    assert describe(replace(PASSED, failures=(Failure(22, "pcr-4", ""),))) == "22:pcr-4"
