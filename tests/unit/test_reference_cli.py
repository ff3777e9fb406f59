"""`sdbox reference`, and what `sdbox eventlog` and `sdbox verify` make of a learnt firmware profile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from sdbox.attestation.cli import verify
from sdbox.attestation.evidencefile import EvidenceFile, write_evidence
from sdbox.attestation.reference_cli import reference
from sdbox.boot.cli import eventlog
from sdbox.boot.firmware import FirmwareError, read_profile
from sdbox.boot.reference import write_reference
from sdbox.protocol.values import Evidence
from tests.unit import attestation_factory as f
from tests.unit.attestation_bad import LOG_1_3, WITH_FIRMWARE
from tests.unit.attestation_factory import Forge, changed, variable
from tests.unit.boot_log_factory import Record, agile_log

GOLDEN = Forge(log=LOG_1_3, quoted=WITH_FIRMWARE)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(reference, [str(argument) for argument in arguments])


def evidence_file(path: Path, evidence: Evidence) -> Path:
    path.write_bytes(write_evidence(EvidenceFile(evidence, f.NONCE, f.EXPORTER, f.BOX)))
    return path


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    golden = evidence_file(tmp_path / "golden.json", GOLDEN.evidence())
    result = invoke("learn", golden, "--model", "Bench Q35", "--output", tmp_path / "bench.json")
    assert result.exit_code == 0, result.output
    return tmp_path / "bench.json"


def test_a_profile_is_learnt_and_shown(profile: Path) -> None:
    learnt = read_profile(profile.read_bytes())
    assert learnt.model == "Bench Q35"
    assert learnt.expected() == f.values_of(f.LOG, (0, 2))
    shown = invoke("show", profile).stdout
    assert "Bench Q35" in shown
    assert learnt.pcrs["0"] in shown
    assert json.loads(invoke("show", profile, "--json").stdout)["pcrs"] == learnt.pcrs


def test_reference_values_are_shown(tmp_path: Path) -> None:
    write_reference(f.reference(), tmp_path / "reference.json")
    shown = invoke("show", tmp_path / "reference.json").stdout
    assert "4, 5, 7, 11, 12, 13, 15; without an expected value: 5, 15" in shown
    assert "section .cmdline" in shown


UNSOUND = {
    "no signature of its key": (replace(GOLDEN.evidence(), signature=f.evidence().signature), 1),
    "firmware PCRs not quoted": (f.evidence(), 1),
    "a log of another boot": (replace(GOLDEN, log=f.LOG, values=f.values_of(LOG_1_3, WITH_FIRMWARE)).evidence(), 1),
    "not a quote": (replace(f.evidence(), attest=b"\0"), 2),
}


@pytest.mark.parametrize(("evidence", "code"), UNSOUND.values(), ids=UNSOUND.keys())
def test_nothing_is_learnt_from_evidence_that_is_not_sound(tmp_path: Path, evidence: Evidence, code: int) -> None:
    path, output = evidence_file(tmp_path / "evidence.json", evidence), tmp_path / "profile.json"
    result = invoke("learn", path, "--output", output)
    assert (result.exit_code, output.exists()) == (code, False)
    assert len(result.stderr.splitlines()) == 1


def test_a_file_that_is_neither_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert invoke("show", path).exit_code == 2
    assert invoke("learn", path, "--output", tmp_path / "y").exit_code == 2


BAD_PROFILES = (b"{", b"{}", b'{"model": "x", "pcrs": {"0": "00"}}', b'{"model": "x", "pcrs": {"0": "zz", "2": "zz"}}')


@pytest.mark.parametrize("data", BAD_PROFILES)
def test_a_malformed_profile_is_refused(data: bytes) -> None:
    with pytest.raises(FirmwareError):
        read_profile(data)


def test_verify_holds_a_box_against_its_firmware(tmp_path: Path, profile: Path) -> None:
    write_reference(f.reference(), tmp_path / "reference.json")
    options = ["--reference", str(tmp_path / "reference.json"), "--firmware", str(profile), "--json"]
    other = replace(GOLDEN, log=LOG_1_3.replace(b"firmware 1", b"firmware 2"))
    for forge, codes in ((GOLDEN, []), (Forge(), ["pcr-selection"])):
        path = evidence_file(tmp_path / "evidence.json", forge.evidence())
        result = CliRunner().invoke(verify, [str(path), *options])
        assert [reason["code"] for reason in json.loads(result.stdout)["reasons"]] == codes
    log = agile_log(Record(0, 8, b"firmware 2"), *f.without(0), *(Record(i, 4, bytes(4)) for i in (1, 3)))
    path = evidence_file(tmp_path / "evidence.json", replace(other, log=log).evidence())
    answer = json.loads(CliRunner().invoke(verify, [str(path), *options]).stdout)
    assert [reason["code"] for reason in answer["reasons"]] == ["firmware"]
    assert answer["ear"]["submods"]["box"]["ear.trustworthiness-vector"]["hardware"] == 96


def test_a_policy_file_is_asked_for_what_it_says(tmp_path: Path) -> None:
    write_reference(f.reference(), tmp_path / "reference.json")
    path = evidence_file(tmp_path / "evidence.json", f.evidence())
    rules = tmp_path / "policy.json"
    for text, code in (
        ("{}", 0),
        ('{"minimum_image_version": 8}', 1),
        ('{"microcode": {"000306a9": 33}}', 0),
        ('{"microcode": {"000306a9": 34}}', 1),
        ('{"microcode": {"306a9": 33}}', 2),
        ('{"minimum": 8}', 2),
        ('{"tpm_firmware": ["x"]}', 2),
        ('{"firmware": [{"model": "Any", "pcrs": {}}]}', 2),
        ('{"firmware": [{"model": "Any", "pcrs": {"0": "zz", "2": "zz"}}]}', 2),
    ):
        rules.write_text(text)
        arguments = [str(path), "--reference", str(tmp_path / "reference.json"), "--policy", str(rules)]
        assert CliRunner().invoke(verify, arguments).exit_code == code, text


MEANINGS = {
    "Secure Boot is off": changed("variable SecureBoot", variable("SecureBoot", b"\0")),
    "another platform key": changed("variable PK", variable("PK", f.certificates(b"x"))),
    "trusts another signer": changed("variable db", variable("db", f.certificates(b"x"))),
    "revocation list is another one": changed("variable dbx", variable("dbx", b"")),
    "mode that an honest box never has: UEFI Debug Mode": (Record(7, f.ACTION, b"UEFI Debug Mode"), *f.RECORDS),
    "another kernel image was started": changed("UKI", Record(4, f.APPLICATION, b"p", bytes(32))),
    "something more was started": (*f.RECORDS, Record(4, f.APPLICATION, b"p", bytes(32))),
    "another kernel command line": changed("section .cmdline", Record(11, f.IPL, b".cmdline", bytes(32))),
    "from outside the image": (*f.RECORDS, Record(12, f.IPL, b"x.cred")),
    "never measured": f.without(f.place_of("section .cmdline")),
    "the initrd had not run to its end": f.without(f.place_of("phase leave-initrd")),
    "processor 000306a9, microcode 0x21": (*f.RECORDS, Record(12, f.IPL, b"x.cred")),
    "0 measurements, expected one of processor and microcode": (
        *f.without(f.place_of("microcode")),
        Record(12, f.IPL, b"x.cred"),
    ),
    "another firmware": (Record(0, 8, b"firmware 2"), *f.without(0)),
}


@pytest.mark.parametrize(("meaning", "records"), MEANINGS.items(), ids=MEANINGS.keys())
def test_the_diff_says_what_an_event_means(
    tmp_path: Path, profile: Path, meaning: str, records: tuple[Record, ...]
) -> None:
    write_reference(f.reference(), tmp_path / "reference.json")
    (tmp_path / "log").write_bytes(agile_log(*records))
    options = ["--reference", str(tmp_path / "reference.json"), "--firmware", str(profile), "--json"]
    result = CliRunner().invoke(eventlog, [str(tmp_path / "log"), *options])
    notes = json.loads(result.stdout)["notes"]
    assert any(meaning in note for note in notes), notes
    assert sum(note.endswith("as expected") for note in notes) == 6


@pytest.mark.parametrize(("least", "value"), [(None, 0), (0x21, 0), (0x22, 96)], ids=["not asked", "met", "missed"])
def test_new_microcode_alone_says_nothing_of_the_hardware_and_old_does(
    tmp_path: Path, least: int | None, value: int
) -> None:
    (tmp_path / "policy.json").write_text(json.dumps({"microcode": {"000306a9": least}} if least else {}))
    assert vector(tmp_path, f.evidence(), "--policy", str(tmp_path / "policy.json"))["hardware"] == value


def vector(folder: Path, evidence: Evidence, *options: str, root_hash: str = "") -> dict[str, int]:
    """Return the trustworthiness vector that `sdbox verify` gives."""
    known = msgspec.structs.replace(f.reference(), root_hash=root_hash)
    write_reference(known, folder / "reference.json")
    path = evidence_file(folder / "evidence.json", evidence)
    arguments = [str(path), "--reference", str(folder / "reference.json"), *options, "--json"]
    box = json.loads(CliRunner().invoke(verify, arguments).stdout)["ear"]["submods"]["box"]
    claims: dict[str, int] = box["ear.trustworthiness-vector"]
    return claims


def test_the_firmware_s_profile_is_what_says_something_of_the_hardware(tmp_path: Path, profile: Path) -> None:
    assert vector(tmp_path, GOLDEN.evidence(), "--firmware", str(profile))["hardware"] == 2
    (tmp_path / "policy.json").write_text(json.dumps({"tpm_firmware": [f"{f.TPM_FIRMWARE:016x}"]}))
    assert vector(tmp_path, f.evidence(), "--policy", str(tmp_path / "policy.json"))["hardware"] == 0


def test_the_file_system_is_claimed_where_the_reference_has_a_root_hash(tmp_path: Path) -> None:
    other = Forge(log=agile_log(*changed("section .cmdline", Record(11, f.IPL, b".cmdline", bytes(32)))))
    image = Forge(log=agile_log(*changed("UKI", Record(4, f.APPLICATION, b"p", bytes(32)))))
    assert vector(tmp_path, f.evidence())["file-system"] == 0
    assert vector(tmp_path, f.evidence(), root_hash="5" * 64)["file-system"] == 2
    assert vector(tmp_path, other.evidence(), root_hash="5" * 64)["file-system"] == 96
    assert vector(tmp_path, image.evidence(), root_hash="5" * 64)["file-system"] == 0
