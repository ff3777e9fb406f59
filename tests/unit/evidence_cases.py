"""The recorded evidence and what each piece is held against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from sdbox.attestation.appraisal import Expected, appraise
from sdbox.attestation.evidencefile import EvidenceFile, read_evidence
from sdbox.attestation.logchecks import log_digest
from sdbox.attestation.policy import Policy, read_policy
from sdbox.attestation.structures import name_of, parse_quote
from sdbox.attestation.verdict import Seen, Verdict
from sdbox.boot.firmware import read_profile
from sdbox.boot.reference import read_reference
from sdbox.protocol.values import BoxId

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "evidence"


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of cases.json. `previous` and `ak` name evidence: seen before, and with the key that was activated."""

    odd: str
    checks: tuple[str, ...]
    file: str = ""
    previous: str = ""
    ak: str = ""
    box_id: str = ""
    nonce: str = ""
    connected: bool = False


def cases() -> dict[str, Case]:
    return msgspec.json.decode((FOLDER / "cases.json").read_bytes(), type=dict[str, Case])


def load(name: str, folder: Path = FOLDER) -> EvidenceFile:
    return read_evidence((folder / f"{name}.json").read_bytes())


def policy() -> Policy:
    """Return what the bench's box is held against beyond its image: firmware, and the revision it was recorded with."""
    rules = read_policy((FOLDER / "policy.json").read_bytes())
    return msgspec.structs.replace(rules, firmware=(read_profile((FOLDER / "firmware.json").read_bytes()),))


def judge(name: str, case: Case, folder: Path = FOLDER) -> Verdict:
    """Appraise the case's evidence; its files are in `folder`."""
    file = load(case.file or name, folder)
    rules = policy()
    known = Expected(
        file.nonce, file.exporter, file.box_id, read_reference((FOLDER / "reference.json").read_bytes()), policy=rules
    )
    before = seen(load(case.previous, folder)) if case.previous else None
    known = replace(known, previous=before, connected=case.connected)
    if case.ak:
        known = replace(known, ak_name=name_of(load(case.ak, folder).evidence.ak_public))
    if case.box_id:
        known = replace(known, box_id=BoxId.parse(case.box_id))
    if case.nonce:
        known = replace(known, nonce=bytes.fromhex(case.nonce) * 32)
    return appraise(file.evidence, known)


def seen(file: EvidenceFile) -> Seen:
    return Seen(parse_quote(file.evidence.attest).clock, log_digest(file.evidence.event_log))


def codes(verdict: Verdict) -> set[str]:
    return {f"{failure.check}:{failure.code}" for failure in verdict.failures}
