"""The claims of an EAR (draft-ietf-rats-ear) with AR4SI trust values. Signing them is the gateway's business."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sdbox.attestation.verdict import PCR_MISMATCH, Verdict
from sdbox.protocol.values import BoxId

PROFILE = "tag:github.com,2023:veraison/ear"
VERIFIER = {"build": "sdbox", "developer": "sdbox"}
_IDENTITY_ROWS = frozenset({4, 8, 9, 10, 11, 12, 13, 14, 15})
_FIRMWARE_ROWS = frozenset({17, 18, 19, 21, 25})


class Trust(IntEnum):
    """AR4SI tiers' values (draft-ietf-rats-ar4si, 2.3): one recognised value of each tier that we state."""

    NONE = 0
    AFFIRMING = 2
    CONTRAINDICATED = 96
    NOT_RECOGNISED = 97


@dataclass(frozen=True, slots=True)
class Validity:
    """When the result was made, in seconds since 1970, and for how many seconds it lasts."""

    issued: int
    seconds: int


def ear_claims(verdict: Verdict, box_id: BoxId, validity: Validity) -> dict[str, object]:
    """Return the claims set: `submods.box` holds the status, the trust vector and the failed checks."""
    vector = {
        "instance-identity": _trust(verdict, _IDENTITY_ROWS, Trust.NOT_RECOGNISED),
        "configuration": _trust(verdict, _FIRMWARE_ROWS, Trust.CONTRAINDICATED),
        "executables": Trust.CONTRAINDICATED
        if _codes(verdict) & {PCR_MISMATCH, "internal", "policy"}
        else _base(verdict),
    }
    box = {
        "ear.status": "affirming" if verdict.accepted else "contraindicated",
        "ear.trustworthiness-vector": {name: int(value) for name, value in vector.items()},
        "sdbox.box-id": str(box_id),
        "sdbox.checks": [{"check": f.check, "code": f.code} for f in verdict.failures],
    }
    times = {"iat": validity.issued, "exp": validity.issued + validity.seconds}
    return {"eat_profile": PROFILE, **times, "ear.verifier-id": VERIFIER, "submods": {"box": box}}


def _trust(verdict: Verdict, rows: frozenset[int], failed: Trust) -> Trust:
    return failed if any(failure.check in rows for failure in verdict.failures) else _base(verdict)


def _base(verdict: Verdict) -> Trust:
    """An aspect without a failure of its own is affirmed only in a result that is accepted as a whole."""
    return Trust.AFFIRMING if verdict.accepted else Trust.NONE


def _codes(verdict: Verdict) -> set[str]:
    return {failure.code for failure in verdict.failures}
