"""Enrolment: read a TPM's endorsement key so that the factory inventory can bind it to a box."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.attestation.tpm import Tpm


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A TPM's EK as PEM: SubjectPublicKeyInfo, and its certificate if the TPM holds one."""

    public_pem: str
    certificate_pem: str | None


def read_endorsement(tpm: Tpm) -> Endorsement:
    """Return the EK of `tpm`; Refusal(BOX_TPM) if the certificate is for another key."""
    raise NotImplementedError
