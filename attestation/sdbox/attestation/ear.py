"""The claims of an EAR (draft-ietf-rats-ear) with AR4SI trust values. Signing them is the gateway's business.

The names are those of the profile that the result carries; later drafts, with other profiles, write "_" for the dot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from sdbox.attestation.policy import Policy, digest
from sdbox.attestation.verdict import Verdict
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.values import BoxId, Evidence

PROFILE = "tag:github.com,2023:veraison/ear"
VERIFIER = {"build": "sdbox", "developer": "sdbox"}


class Trust(IntEnum):
    """AR4SI tiers' values (draft-ietf-rats-ar4si, 2.3): one recognised value of each tier that we state."""

    NONE = 0
    AFFIRMING = 2
    CONTRAINDICATED = 96
    NOT_RECOGNISED = 97


# The checklist's rows of each category, and what a failure of one says.
_ROWS = {
    "instance-identity": (frozenset({4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16}), Trust.NOT_RECOGNISED),
    "configuration": (frozenset({17, 18, 19, 20, 21, 24}), Trust.CONTRAINDICATED),
    "executables": (frozenset({22, 23, 26, 28, 30}), Trust.CONTRAINDICATED),
    "file-system": (frozenset({26}), Trust.CONTRAINDICATED),
    "hardware": (frozenset({16, 25, 27}), Trust.CONTRAINDICATED),
}


@dataclass(frozen=True, slots=True)
class Validity:
    """When the result was made, in seconds since 1970, and for how many seconds it lasts."""

    issued: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Subject:
    """What the result is about: a box on one channel, running one image, judged by one set of rules (checklist 31).

    `channel` is SHA-256 of the TLS exporter, `evidence` of the quote and its signature; hex, like `policy`.
    """

    box_id: BoxId
    channel: str
    policy: str
    evidence: str
    image_version: str = ""
    profile: str = ""
    hardware: bool = False  # the policy has firmware profiles to hold the box against
    file_system: bool = False  # the image has a verity root hash, which its command line carries

    @classmethod
    def of(
        cls, evidence: Evidence, exporter: bytes, box_id: BoxId, *, reference: ReferenceValues, policy: Policy
    ) -> Subject:
        """Return the subject of a verdict about `evidence` by `reference` and `policy`."""
        return cls(
            box_id,
            hashlib.sha256(exporter).hexdigest(),
            digest(reference, policy),
            hashlib.sha256(evidence.attest + evidence.signature).hexdigest(),
            reference.image_version,
            reference.profile,
            bool(policy.firmware),
            bool(reference.root_hash),
        )


def ear_claims(verdict: Verdict, subject: Subject, validity: Validity) -> dict[str, object]:
    """Return the claims set: `submods.box` holds the status, the trust vector and the failed checks.

    A category that no rule was held against says "none" (0), never "affirming". So does the identity unless the key
    was activated (row 5): without that any key in software could have signed. So does the hardware without a firmware
    profile, however new the microcode and the TPM's firmware are: both are parts of it that can only speak against it.
    """
    is_affirmed = {
        "instance-identity": bool(verdict.ak_name),
        "configuration": True,
        "executables": True,
        "file-system": subject.file_system,
        "hardware": subject.hardware,
    }
    vector = {name: _trust(verdict, name, affirmed=affirmed) for name, affirmed in is_affirmed.items()}
    box = {
        "ear.status": "affirming" if verdict.accepted else "contraindicated",
        "ear.trustworthiness-vector": {name: int(value) for name, value in vector.items()},
        "ear.appraisal-policy-id": f"sdbox:{subject.policy}",
        "sdbox.box-id": str(subject.box_id),
        "sdbox.channel": subject.channel,
        "sdbox.evidence": subject.evidence,
        "sdbox.image-version": subject.image_version,
        "sdbox.image-profile": subject.profile,
        "sdbox.model": verdict.model,
        "sdbox.microcode": str(verdict.microcode or ""),
        "sdbox.checks": [{"check": f.check, "code": f.code} for f in verdict.failures],
        "sdbox.notes": list(verdict.notes),
    }
    times = {"iat": validity.issued, "exp": validity.issued + validity.seconds}
    return {"eat_profile": PROFILE, **times, "ear.verifier-id": VERIFIER, "submods": {"box": box}}


def _trust(verdict: Verdict, category: str, *, affirmed: bool) -> Trust:
    """An aspect without a failure of its own is affirmed only in a result that is accepted as a whole."""
    rows, failed = _ROWS[category]
    if any(item.check in rows for item in verdict.failures):
        return failed
    return Trust.AFFIRMING if verdict.accepted and affirmed else Trust.NONE
