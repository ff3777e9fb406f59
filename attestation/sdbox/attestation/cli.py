"""`sdbox verify`: appraise a piece of evidence offline, with the gateway's own appraisal."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from sdbox.attestation.appraisal import Expected, appraise
from sdbox.attestation.ear import Subject, Validity, ear_claims
from sdbox.attestation.evidencefile import EvidenceFile, EvidenceFormatError, read_evidence
from sdbox.attestation.logchecks import log_digest
from sdbox.attestation.policy import Policy, PolicyFormatError, read_policy
from sdbox.attestation.structures import StructureError, name_of, parse_quote
from sdbox.attestation.verdict import Seen, Verdict
from sdbox.boot.firmware import FirmwareError, read_profile
from sdbox.boot.reference import ReferenceFormatError, read_reference

_REFUSED, _BAD_INPUT = 1, 2
_LASTS = 300  # seconds, checklist 31
_NAME = re.compile(r"000b[0-9a-f]{64}")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog="Example: sdbox verify evidence.json --reference reference.json --json")
@click.argument("evidence", type=_FILE)
@click.option("--reference", required=True, type=_FILE, help="The reference.json that the image build wrote.")
@click.option("--policy", type=_FILE, help="The centre's policy.json: minimum versions, revoked images, TPM firmware.")
@click.option("--firmware", multiple=True, type=_FILE, help="A firmware profile that is let in; may be repeated.")
@click.option("--ak-name", help="Name (hex) of the key that the box's TPM activated: `sdbox-gateway passes` has it.")
@click.option("--previous", type=_FILE, help="Evidence of this box from before: its key, clock and counters.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(
    *,
    evidence: Path,
    reference: Path,
    policy: Path | None,
    firmware: tuple[Path, ...],
    ak_name: str | None,
    previous: Path | None,
    as_json: bool,
) -> None:
    """Appraise EVIDENCE. Exit 0 if accepted, 1 if refused, 2 if a file is malformed.

    Without --ak-name nothing says whose TPM it was: the claim about the identity is "none". The claims are printed
    unsigned: only a gateway's signature makes them an attestation result.
    """
    try:
        file = read_evidence(evidence.read_bytes())
        values = read_reference(reference.read_bytes())
        rules = _policy(policy, firmware)
        expected = Expected(file.nonce, file.exporter, file.box_id, values, _name(ak_name), policy=rules)
        if previous:
            expected = _after(expected, read_evidence(previous.read_bytes()))
    except (EvidenceFormatError, ReferenceFormatError, PolicyFormatError, FirmwareError, OSError) as error:
        click.echo(f"sdbox verify: {error}", err=True)
        raise SystemExit(_BAD_INPUT) from error
    verdict = appraise(file.evidence, expected)
    subject = Subject.of(file.evidence, file.exporter, file.box_id, reference=values, policy=rules)
    click.echo(_as_json(verdict, subject) if as_json else _as_text(verdict))
    raise SystemExit(0 if verdict.accepted else _REFUSED)


def _name(text: str | None) -> bytes | None:
    if text is not None and not _NAME.fullmatch(text):
        raise EvidenceFormatError("--ak-name is not the Name of a key: 000b and a SHA-256, 68 hex digits")
    return bytes.fromhex(text) if text else None


def _after(expected: Expected, before: EvidenceFile) -> Expected:
    """Return `expected` with what evidence of the same box showed before: rows 6 and 15."""
    if before.box_id != expected.box_id:
        raise EvidenceFormatError("--previous is evidence of another box")
    try:
        seen = Seen(parse_quote(before.evidence.attest).clock, log_digest(before.evidence.event_log))
        return replace(expected, previous=seen, enrolled_ak=name_of(before.evidence.ak_public))
    except StructureError as error:
        raise EvidenceFormatError(f"--previous: {error}") from error


def _policy(path: Path | None, profiles: tuple[Path, ...]) -> Policy:
    policy = read_policy(path.read_bytes()) if path else Policy()
    learnt = tuple(read_profile(profile.read_bytes()) for profile in profiles)
    return msgspec.structs.replace(policy, firmware=policy.firmware + learnt)


def _as_json(verdict: Verdict, subject: Subject) -> str:
    reasons = [{"check": f.check, "code": f.code, "text": f.text} for f in verdict.failures]
    ear = ear_claims(verdict, subject, Validity(int(time.time()), _LASTS))
    notes = list(verdict.notes)
    return json.dumps({"accepted": verdict.accepted, "reasons": reasons, "notes": notes, "ear": ear}, indent=2)


def _as_text(verdict: Verdict) -> str:
    lines = [f"check {f.check:2}  {f.code:22} {f.text}" for f in verdict.failures]
    whose = () if verdict.ak_name else ("no --ak-name was given: any TPM may have made it, or a key in software",)
    notes = [f"note      {note}" for note in (*verdict.notes, *whose)]
    return "\n".join(["accepted" if verdict.accepted else "refused", *lines, *notes])
