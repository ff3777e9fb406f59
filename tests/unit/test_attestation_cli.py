"""`sdbox verify` and `sdbox eventlog`: the contracts that scripts rely on."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from sdbox.attestation.cli import verify
from sdbox.attestation.evidencefile import EvidenceFile, write_evidence
from sdbox.attestation.structures import name_of
from sdbox.boot.cli import eventlog
from sdbox.boot.reference import ReferenceValues, write_reference
from tests.unit.attestation_factory import BOX, EXPORTER, LOG, NONCE, RECORDS, VALUES, evidence, reference, values_of
from tests.unit.boot_log_factory import Record, agile_log
from tests.unit.evidence_cases import FOLDER, load

MEASURED = {record.pcr for record in RECORDS}


def run_verify(folder: Path, document: bytes, policy: ReferenceValues, *options: str) -> Result:
    (folder / "evidence.json").write_bytes(document)
    write_reference(policy, folder / "reference.json")
    arguments = [str(folder / "evidence.json"), "--reference", str(folder / "reference.json"), "--json", *options]
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
    assert trust(answer)["instance-identity"] == 0, "any TPM could have made it"


def trust(answer: dict[str, Any]) -> dict[str, int]:
    vector: dict[str, int] = answer["ear"]["submods"]["box"]["ear.trustworthiness-vector"]
    return vector


AK_NAME = name_of(evidence().ak_public).hex()


def test_verify_says_whose_it_is_only_of_a_key_that_was_activated(tmp_path: Path) -> None:
    answer = json.loads(run_verify(tmp_path, document(), reference(), "--ak-name", AK_NAME).stdout)
    assert (answer["accepted"], trust(answer)["instance-identity"]) == (True, 2)
    other = run_verify(tmp_path, document(), reference(), "--ak-name", "000b" + "00" * 32)
    assert (other.exit_code, codes(other), trust(json.loads(other.stdout))["instance-identity"]) == (1, ["ak-name"], 97)


def test_verify_tells_people_what_it_can_not_know(tmp_path: Path) -> None:
    run_verify(tmp_path, document(), reference())
    arguments = [str(tmp_path / "evidence.json"), "--reference", str(tmp_path / "reference.json")]
    lines = CliRunner().invoke(verify, arguments).stdout.splitlines()
    assert (lines[0], "any TPM may have made it" in lines[1]) == ("accepted", True)
    assert CliRunner().invoke(verify, [*arguments, "--ak-name", AK_NAME]).stdout.splitlines() == ["accepted"]


@pytest.mark.parametrize("name", ["", "zz", "000b", "0004" + "00" * 20, "00" * 34])
def test_verify_takes_no_other_name(tmp_path: Path, name: str) -> None:
    result = run_verify(tmp_path, document(), reference(), "--ak-name", name)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)


def codes(result: Result) -> list[str]:
    return [reason["code"] for reason in json.loads(result.stdout)["reasons"]]


def recorded(name: str, *options: str) -> Result:
    """Judge a piece of the recorded evidence as an operator does: by hand."""
    known = ["--reference", "reference.json", "--policy", "policy.json", "--firmware", "firmware.json", *options]
    paths = [str(FOLDER / word) if word.endswith(".json") else word for word in (f"{name}.json", *known)]
    return CliRunner().invoke(verify, [*paths, "--json"])


def test_verify_knows_another_tpm_by_the_key_that_was_activated_and_by_the_evidence_before() -> None:
    ours, theirs = (name_of(load(name).evidence.ak_public).hex() for name in ("good", "other-tpm"))
    for name in ("other-tpm", "cloned-tpm"):
        alone = recorded(name)
        assert (alone.exit_code, trust(json.loads(alone.stdout))["instance-identity"]) == (0, 0)
    assert codes(recorded("other-tpm", "--ak-name", ours)) == ["ak-name"]
    assert codes(recorded("other-tpm", "--previous", "good.json")) == ["clock", "ak-changed"]
    assert codes(recorded("cloned-tpm", "--previous", "tpm-rebooted.json")) == ["clock"]
    assert codes(recorded("suspended", "--ak-name", theirs, "--previous", "before-suspend.json")) == []


def test_verify_takes_evidence_of_the_same_box_only_as_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "before.json").write_bytes(document(box_id="00000000-0000-0000-0000-000000000007"))
    result = run_verify(tmp_path, document(), reference(), "--previous", str(tmp_path / "before.json"))
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    (tmp_path / "before.json").write_bytes(document(attest=base64.b64encode(b"no quote").decode()))
    result = run_verify(tmp_path, document(), reference(), "--previous", str(tmp_path / "before.json"))
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)


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
