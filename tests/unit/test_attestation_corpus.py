"""Recorded evidence of real boots: each piece is caught by the checks that must catch it, and by no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdbox.attestation.codes import CODES
from sdbox.bench.corpus import changes
from sdbox.bench.golden import FIRMWARE, POLICY, learn
from tests.unit.evidence_cases import FOLDER, cases, codes, judge

SMALL = 32 * 1024


@pytest.mark.parametrize("name", cases())
def test_recorded_evidence(name: str) -> None:
    case = cases()[name]
    assert codes(judge(name, case)) == set(case.checks), case.odd


def test_every_file_is_a_case_and_small() -> None:
    files = {
        path.stem: path
        for path in FOLDER.glob("*.json")
        if path.stem not in {"cases", "reference", "firmware", "policy"}
    }
    assert set(files) == {case.file or name for name, case in cases().items()}
    assert {name: size for name, path in files.items() if (size := Path(path).stat().st_size) > SMALL} == {}


def test_the_checks_named_exist() -> None:
    known = {f"{code.row}:{name}" for name, code in CODES.items()}
    assert {check for case in cases().values() for check in case.checks} <= known


def test_what_was_recorded_is_what_the_recorder_boots() -> None:
    recorded = {name: (case.odd, set(case.checks)) for name, case in cases().items()}
    for name, change in changes().items():
        if change.is_proved:
            assert recorded[name] == (change.odd, set(change.checks))
        else:
            assert name not in recorded


def test_policy_and_firmware_are_those_of_the_good_boot(tmp_path: Path) -> None:
    learn(FOLDER / "good.json", tmp_path)
    for name in (POLICY, FIRMWARE):
        assert json.loads((tmp_path / name).read_text()) == json.loads((FOLDER / name).read_text())
