"""The cases of the recorded corpus that need no boot, made anew with a software TPM: the checks catch them live too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.service.tpm_cases import record
from tests.unit.evidence_cases import FOLDER, cases, codes, judge

MADE = (
    "other-tpm",
    "relabelled",
    "tpm-rebooted",
    "tpm-reset",
    "cloned-tpm",
    "before-suspend",
    "suspended",
    "suspend-replayed",
    "phase-too-early",
    "other-firmware",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    shutil.copy(FOLDER / "good.json", folder)
    record(folder)
    return folder


@pytest.mark.parametrize("name", MADE)
def test_a_case_that_a_tpm_alone_makes(made: Path, name: str) -> None:
    case = cases()[name]
    assert codes(judge(name, case, made)) == set(case.checks), case.odd
