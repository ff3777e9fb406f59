"""`sdbox verify` and `sdbox eventlog`: the contracts that scripts rely on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from sdbox.attestation.cli import verify
from sdbox.attestation.evidencefile import EvidenceFile, write_evidence
from sdbox.boot.cli import eventlog
from sdbox.boot.reference import ReferenceValues, write_reference
from tests.unit.attestation_factory import BOX, EXPORTER, LOG, NONCE, RECORDS, VALUES, evidence, reference, values_of
from tests.unit.boot_log_factory import Record, agile_log

MEASURED = {record.pcr for record in RECORDS}


def run_verify(folder: Path, document: bytes, policy: ReferenceValues) -> Result:
    (folder / "evidence.json").write_bytes(document)
    write_reference(policy, folder / "reference.json")
    arguments = [str(folder / "evidence.json"), "--reference", str(folder / "reference.json"), "--json"]
    return CliRunner().invoke(verify, arguments)


def document(**changes: object) -> bytes:
    fields = json.loads(write_evidence(EvidenceFile(evidence(), NONCE, EXPORTER, BOX)))
    return json.dumps({key: value for key, value in (fields | changes).items() if value is not None}).encode()


def test_verify_accepts(tmp_path: Path) -> None:
    result = run_verify(tmp_path, document(), reference())
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["accepted"], answer["reasons"]) == (0, True, [])
    assert answer["ear"]["submods"]["box"]["ear.status"] == "affirming"
    assert answer["ear"]["submods"]["box"]["sdbox.microcode"] == "000306a9:0x21"


def test_verify_refuses_with_the_check_that_failed(tmp_path: Path) -> None:
    result = run_verify(tmp_path, document(nonce="00" * 32), reference())
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["accepted"]) == (1, False)
    assert [(r["check"], r["code"]) for r in answer["reasons"]] == [(11, "qualifying-data")]
    assert answer["reasons"][0]["text"]
    assert answer["ear"]["submods"]["box"]["ear.status"] == "contraindicated"
    assert 2 not in answer["ear"]["submods"]["box"]["ear.trustworthiness-vector"].values()


def test_verify_refuses_another_image(tmp_path: Path) -> None:
    result = run_verify(tmp_path, document(), reference(VALUES | {11: bytes(32)}, rules=0))
    assert result.exit_code == 1
    assert [r["check"] for r in json.loads(result.stdout)["reasons"]] == [23]


MALFORMED = {
    "not JSON": b"{",
    "field missing": document(nonce=None),
    "unknown field": document(surprise=1),
    "base64": document(attest="%%%"),
    "short nonce": document(nonce="00"),
    "not hex": document(exporter="zz" * 32),
    "not a UUID": document(box_id="7"),
    "two banks": document(pcrs={"sha256": {}, "sha1": {}}),
    "SHA-1 bank": document(pcrs={"sha1": {}}),
    "PCR 24": document(pcrs={"sha256": {"24": "00"}}),
    "PCR 04": document(pcrs={"sha256": {"04": "00"}}),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_verify_says_in_one_line_that_a_file_is_malformed(tmp_path: Path, data: bytes) -> None:
    result = run_verify(tmp_path, data, reference())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_verify_refuses_a_malformed_reference(tmp_path: Path) -> None:
    assert run_verify(tmp_path, document(), replace_version(reference())).exit_code == 2


def replace_version(values: ReferenceValues) -> ReferenceValues:
    return msgspec.structs.replace(values, version=9)


def test_eventlog_prints_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG + bytes(3))
    result = CliRunner().invoke(eventlog, [str(path), "--json"])
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["events"]) == (0, 24)
    measured = {index: value for index, value in values_of(LOG, range(24)).items() if index in MEASURED}
    assert answer["pcrs"] == {"sha256": {str(index): value.hex() for index, value in measured.items()}}
    assert answer["notes"] == ["padding: 3 bytes 0x00 after the last event"]


def test_eventlog_prints_a_table_and_what_differs(tmp_path: Path) -> None:
    path, policy = tmp_path / "log", tmp_path / "reference.json"
    path.write_bytes(agile_log(Record(4, 4, bytes(4))))
    write_reference(reference(), policy)
    result = CliRunner().invoke(eventlog, [str(path), "--reference", str(policy)])
    assert result.exit_code == 0
    assert "EV_SEPARATOR" in result.stdout
    assert f"expected {VALUES[4].hex()}" in result.stdout


def test_eventlog_says_in_one_line_that_a_log_is_malformed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG[:-1])
    result = CliRunner().invoke(eventlog, [str(path), "--json"])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)


def test_evidence_in_the_file_is_the_evidence_that_was_written(tmp_path: Path) -> None:
    tampered = replace(evidence(), signature=b"\0")
    data = write_evidence(EvidenceFile(tampered, NONCE, EXPORTER, BOX))
    assert run_verify(tmp_path, data, reference()).exit_code == 1
