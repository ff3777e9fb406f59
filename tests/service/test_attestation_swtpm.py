"""Attestation with a real software TPM: activation, quote, appraisal, and a third party's view of our structures."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from sdbox.attestation.appraisal import Expected, appraise
from sdbox.attestation.credential import default_ek_name, make_credential
from sdbox.attestation.evidence import Request, collect
from sdbox.attestation.keys import public_key
from sdbox.attestation.structures import name_of, parse_public
from sdbox.attestation.templates import EK_TEMPLATE
from sdbox.attestation.tpm import Tpm, open_tpm
from sdbox.attestation.vendorcert import load_vendor_certificate
from sdbox.attestation.verdict import Verdict
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.contexts import qualifying_data
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId, Evidence
from tests.service.swtpm_fixture import endorsement_key, manufacture, running_swtpm
from tests.unit.boot_log_factory import Record, agile_log

PCRS = (4, 7, 11, 12, 13)
RECORDS = (Record(4, 4, bytes(4)), Record(7, 4, b"seven"), Record(11, 13, b".linux\0"))
REQUEST = Request(b"n" * 32, b"e" * 32, PCRS)
BOX = BoxId(uuid.UUID("12345678-1234-1234-1234-123456789abc"))


@pytest.fixture(scope="module")
def tcti(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A manufactured TPM into which RECORDS have been measured."""
    state = tmp_path_factory.mktemp("tpm") / "state"
    manufacture(state)
    with running_swtpm(state) as address:
        for record in RECORDS:
            digest = (
                subprocess.run(["sha256sum"], input=record.data, capture_output=True, check=True).stdout[:64].decode()
            )
            tool(address, "tpm2_pcrextend", f"{record.pcr}:sha256={digest}")
        yield address


@pytest.fixture(scope="module")
def other_tcti(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("other") / "state"
    manufacture(state)
    with running_swtpm(state) as address:
        yield address


@pytest.fixture
def tpm(tcti: str) -> Iterator[Tpm]:
    with open_tpm(tcti) as opened:
        yield opened


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "eventlog"
    path.write_bytes(agile_log(*RECORDS))
    return path


def tool(tcti: str, *argv: str, folder: Path | None = None) -> str:
    command = [argv[0], "--tcti", tcti, *argv[1:]]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=30).stdout


def ek_name(tpm: Tpm) -> bytes:
    """As the centre has it: from the enrolled key alone."""
    return default_ek_name(endorsement_key(tpm))


def judge(evidence: Evidence, tpm: Tpm, request: Request = REQUEST, box: BoxId = BOX) -> Verdict:
    values = {str(index): value.hex() for index, value in tpm.read_pcrs(PCRS).items()}
    policy = ReferenceValues(PCRS, {"sha256": values})
    return appraise(evidence, Expected(request.nonce, request.exporter, box, policy, tpm.ak_name()))


def checks(verdict: Verdict) -> set[int]:
    return {failure.check for failure in verdict.failures}


def test_a_credential_made_for_this_tpm_is_opened_by_it(tpm: Tpm) -> None:
    for _ in range(6):  # more often than the TPM has session slots: nothing may be left behind
        secret = os.urandom(32)
        assert tpm.activate(*make_credential(endorsement_key(tpm), tpm.ak_name(), secret), ek_name(tpm)) == secret


def test_a_credential_for_another_attestation_key_is_not_opened(tpm: Tpm) -> None:
    credential = make_credential(endorsement_key(tpm), b"\0\x0b" + bytes(32), os.urandom(32))
    for _ in range(4):
        with pytest.raises(Refusal) as caught:
            tpm.activate(*credential, ek_name(tpm))
        assert caught.value.reason is Reason.BOX_ACTIVATION


def test_a_credential_for_another_tpm_is_not_opened(tpm: Tpm, other_tcti: str) -> None:
    with open_tpm(other_tcti) as other:
        credential = make_credential(endorsement_key(other), tpm.ak_name(), os.urandom(32))
    with pytest.raises(Refusal) as caught:
        tpm.activate(*credential, ek_name(tpm))
    assert caught.value.reason is Reason.BOX_ACTIVATION


def test_the_session_must_be_salted_with_the_enrolled_key(tpm: Tpm, other_tcti: str) -> None:
    """The centre names another key than the one that was shown here: no secret is asked for, whoever has that key."""
    credential = make_credential(endorsement_key(tpm), tpm.ak_name(), os.urandom(32))
    with open_tpm(other_tcti) as other:
        enrolled = ek_name(other)
    with pytest.raises(Refusal, match="not the enrolled one") as caught:
        tpm.activate(*credential, enrolled)
    assert caught.value.reason is Reason.BOX_ACTIVATION


def test_a_malformed_credential_is_a_protocol_error(tpm: Tpm) -> None:
    with pytest.raises(Refusal) as caught:
        tpm.activate(b"\0\x05abc", b"\0\0", ek_name(tpm))
    assert caught.value.reason is Reason.PROTOCOL


def test_honest_evidence_is_accepted(tpm: Tpm, log: Path) -> None:
    verdict = judge(collect(tpm, REQUEST, BOX, log), tpm)
    assert verdict.failures == ()
    assert verdict.clock is not None


def test_evidence_for_another_nonce_channel_or_box_is_refused(tpm: Tpm, log: Path) -> None:
    evidence = collect(tpm, REQUEST, BOX, log)
    assert checks(judge(evidence, tpm, replace(REQUEST, nonce=b"m" * 32))) == {11}
    assert checks(judge(evidence, tpm, replace(REQUEST, exporter=b"f" * 32))) == {11}
    assert checks(judge(evidence, tpm, box=BoxId(uuid.UUID(int=1)))) == {11}


def test_relabelled_pcrs_are_refused(tpm: Tpm, log: Path) -> None:
    """Software can put anything into PCRs 16 and 23: a quote over those is shown as one over 4 and 7."""
    other = collect(tpm, replace(REQUEST, pcrs=(11, 12, 13, 16, 23)), BOX, log)
    shown = replace(other, pcrs=dict(zip(PCRS, other.pcrs.values(), strict=True)))
    assert {12, 14} <= checks(judge(shown, tpm))
    assert {12, 14} <= checks(judge(other, tpm))


def test_evidence_of_another_tpm_is_refused(tpm: Tpm, other_tcti: str, log: Path) -> None:
    evidence = collect(tpm, REQUEST, BOX, log)
    with open_tpm(other_tcti) as other:
        foreign = collect(other, REQUEST, BOX, log)
    assert 4 in checks(judge(foreign, tpm))
    assert checks(judge(replace(evidence, attest=foreign.attest), tpm)) >= {10}
    assert checks(judge(replace(foreign, ak_public=evidence.ak_public), tpm)) >= {10}


def test_a_log_with_an_event_left_out_is_refused(tpm: Tpm, log: Path) -> None:
    log.write_bytes(agile_log(*RECORDS[:-1]))
    assert checks(judge(collect(tpm, REQUEST, BOX, log), tpm)) == {18}


def test_the_attestation_key_is_the_same_every_time(tcti: str) -> None:
    names = set()
    for _ in range(2):
        with open_tpm(tcti) as opened:
            names.add(opened.ak_name())
    assert len(names) == 1
    assert tool(tcti, "tpm2_getcap", "handles-transient").strip() == ""
    assert tool(tcti, "tpm2_getcap", "handles-loaded-session").strip() == ""


def test_enrolment_gives_the_key_of_the_certificate(tpm: Tpm) -> None:
    certificate = load_vendor_certificate(tpm.ek_certificate() or b"")
    assert certificate.parsed.public_key() == endorsement_key(tpm)


def test_a_tpm_without_persistent_key_or_certificate_has_the_same_default_key(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["swtpm_setup", "--tpm2", "--tpmstate", state, "--overwrite"], check=True, capture_output=True)
    with running_swtpm(state) as address, open_tpm(address) as bare:
        secret = os.urandom(32)
        assert bare.ek_certificate() is None
        assert bare.ek_public()[: len(EK_TEMPLATE) - 256] == EK_TEMPLATE[:-256]
        assert bare.activate(*make_credential(endorsement_key(bare), bare.ak_name(), secret), ek_name(bare)) == secret


def test_a_tpm_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught, open_tpm(f"device:{tmp_path / 'none'}"):
        pass
    assert caught.value.reason is Reason.BOX_TPM_ABSENT


def test_tpm2_tools_verify_our_quote(tpm: Tpm, log: Path, tmp_path: Path) -> None:
    evidence = collect(tpm, REQUEST, BOX, log)
    ak = public_key(parse_public(evidence.ak_public))
    (tmp_path / "ak.pem").write_bytes(ak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "quote").write_bytes(evidence.attest)
    (tmp_path / "signature").write_bytes(evidence.signature)
    bound = qualifying_data(REQUEST.nonce, REQUEST.exporter, BOX.bytes, evidence.event_log).hex()
    command = ["tpm2_checkquote", "-u", "ak.pem", "-m", "quote", "-s", "signature", "-g", "sha256", "-q", bound]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    (tmp_path / "quote").write_bytes(evidence.attest[:-1] + bytes([evidence.attest[-1] ^ 1]))
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, timeout=30).returncode != 0


@pytest.mark.parametrize("algorithm", ["rsa", "ecc"])
def test_tpm2_tools_open_our_credential(other_tcti: str, algorithm: str, tmp_path: Path) -> None:
    """Both directions of the format: their EK and AK, our credential; RSA and ECC endorsement keys."""
    tool(other_tcti, "tpm2_createek", "-c", "ek.ctx", "-G", algorithm, "-u", "ek.pem", "-f", "pem", folder=tmp_path)
    options = ["-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-u", "ak.pub", "-n", "ak.name", "-f", "tpmt"]
    tool(other_tcti, "tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", *options, folder=tmp_path)
    tool(other_tcti, "tpm2_flushcontext", "-t", folder=tmp_path)
    name, secret = (tmp_path / "ak.name").read_bytes(), os.urandom(32)
    assert name_of((tmp_path / "ak.pub").read_bytes()) == name
    ek = load_pem_public_key((tmp_path / "ek.pem").read_bytes())
    assert isinstance(ek, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    identity, encrypted = make_credential(ek, name, secret)
    # tpm2-tools' file: magic 0xBADCC0DE and version 1, then the two TPM2B structures.
    (tmp_path / "credential").write_bytes(bytes.fromhex("badcc0de00000001") + identity + encrypted)
    tool(other_tcti, "tpm2_startauthsession", "--policy-session", "-S", "session", folder=tmp_path)
    tool(other_tcti, "tpm2_policysecret", "-S", "session", "-c", "e", folder=tmp_path)
    opened = ["-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "secret", "-P", "session:session"]
    tool(other_tcti, "tpm2_activatecredential", *opened, folder=tmp_path)
    tool(other_tcti, "tpm2_flushcontext", "session", folder=tmp_path)
    tool(other_tcti, "tpm2_flushcontext", "-t", folder=tmp_path)
    assert (tmp_path / "secret").read_bytes() == secret


def test_what_the_initrd_noted_stands_behind_the_log(tpm: Tpm, log: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b"9 13 " + b"leave-initrd".hex().encode() + b"\n")
    evidence = collect(tpm, REQUEST, BOX, log, notes=notes)
    assert evidence.event_log == agile_log(*RECORDS, Record(9, 13, b"leave-initrd"))
    assert checks(judge(evidence, tpm)) == set()


def test_notes_of_something_that_was_not_measured_are_refused(tpm: Tpm, log: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b"11 13 " + b"leave-initrd".hex().encode() + b"\n")
    assert checks(judge(collect(tpm, REQUEST, BOX, log, notes=notes), tpm)) == {18}


def test_malformed_notes_are_a_clear_refusal(tpm: Tpm, log: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b"9 13 00")
    with pytest.raises(Refusal, match="initrd") as caught:
        collect(tpm, REQUEST, BOX, log, notes=notes)
    assert caught.value.reason is Reason.BOX_TPM
