"""The appraisal: one pure function from evidence, freshness, channel and reference values to a verdict."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.attestation.verdict import Verdict
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.values import BoxId, Evidence


@dataclass(frozen=True, slots=True)
class Expected:
    """What the verifier knows by itself and the evidence must match. `ak_name` is the one activated, if any was."""

    nonce: bytes
    exporter: bytes
    box_id: BoxId
    reference: ReferenceValues
    ak_name: bytes | None = None


def appraise(evidence: Evidence, expected: Expected) -> Verdict:
    """Judge `evidence`. Never raises: an exception inside is a failure of check 28."""
    raise NotImplementedError
