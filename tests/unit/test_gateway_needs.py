"""What a bubble may ask of a box: each claim alone keeps a box out that lacks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdbox.attestation.ear import Subject
from sdbox.attestation.verdict import Failure, Verdict
from sdbox.gateway.needs import Needs
from sdbox.gateway.verifier import Judgement
from tests.unit.attestation_factory import BOX

SUBJECT = Subject(BOX, "", "", "", image_version="7", profile="production", hardware=True)
RESULT = Judgement(Verdict((), model="Bench Q35"), SUBJECT)
ALL = Needs(image_profile="production", minimum_image_version=7, hardware=True, models=("Other", "Bench Q35"))

LACKING = {
    "image_profile": replace(RESULT, subject=replace(SUBJECT, profile="debug")),
    "minimum_image_version": replace(RESULT, subject=replace(SUBJECT, image_version="6")),
    "hardware": replace(RESULT, subject=replace(SUBJECT, hardware=False)),
    "models": replace(RESULT, verdict=Verdict((), model="")),
    "result": replace(RESULT, verdict=Verdict((Failure(28, "internal", ""),), model="Bench Q35")),
}


def test_a_box_with_every_claim_may_enter() -> None:
    assert ALL.unmet(RESULT) == ""
    assert Needs().unmet(LACKING["models"]) == ""


@pytest.mark.parametrize(("claim", "result"), LACKING.items(), ids=LACKING.keys())
def test_a_box_without_a_claim_stays_out(claim: str, result: Judgement) -> None:
    assert ALL.unmet(result) == claim


@pytest.mark.parametrize("version", ["", "7a", "-7", "٧"])
def test_a_version_that_is_no_number_is_older_than_any(version: str) -> None:
    result = replace(RESULT, subject=replace(SUBJECT, image_version=version))
    assert ALL.unmet(result) == "minimum_image_version"
