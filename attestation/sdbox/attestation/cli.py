"""`sdbox verify`: appraise a piece of evidence offline, with the gateway's own appraisal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import msgspec

from sdbox.attestation.appraisal import Expected, appraise
from sdbox.attestation.ear import Subject, Validity, ear_claims
from sdbox.attestation.evidencefile import EvidenceFormatError, read_evidence
from sdbox.attestation.policy import Policy, PolicyFormatError, read_policy
from sdbox.attestation.verdict import Verdict
from sdbox.boot.firmware import FirmwareError, read_profile
from sdbox.boot.reference import ReferenceFormatError, read_reference

_REFUSED, _BAD_INPUT = 1, 2
_LASTS = 300  # seconds, checklist 31
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog="Example: sdbox verify evidence.json --reference reference.json --json")
@click.argument("evidence", type=_FILE)
@click.option("--reference", required=True, type=_FILE, help="The reference.json that the image build wrote.")
@click.option("--policy", type=_FILE, help="The centre's policy.json: minimum versions, revoked images, TPM firmware.")
@click.option("--firmware", multiple=True, type=_FILE, help="A firmware profile that is let in; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(*, evidence: Path, reference: Path, policy: Path | None, firmware: tuple[Path, ...], as_json: bool) -> None:
    """Appraise EVIDENCE. Exit 0 if accepted, 1 if refused, 2 if a file is malformed.

    The result's claims are printed unsigned: only a gateway's signature makes them an attestation result.
    """
    try:
        file = read_evidence(evidence.read_bytes())
        values = read_reference(reference.read_bytes())
        rules = _policy(policy, firmware)
    except (EvidenceFormatError, ReferenceFormatError, PolicyFormatError, FirmwareError, OSError) as error:
        click.echo(f"sdbox verify: {error}", err=True)
        raise SystemExit(_BAD_INPUT) from error
    verdict = appraise(file.evidence, Expected(file.nonce, file.exporter, file.box_id, values, policy=rules))
    subject = Subject.of(file.evidence, file.exporter, file.box_id, reference=values, policy=rules)
    click.echo(_as_json(verdict, subject) if as_json else _as_text(verdict))
    raise SystemExit(0 if verdict.accepted else _REFUSED)


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
    notes = [f"note      {note}" for note in verdict.notes]
    return "\n".join(["accepted" if verdict.accepted else "refused", *lines, *notes])
