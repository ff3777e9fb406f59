"""TPM2_MakeCredential in software: a secret that only the TPM holding this EK and this AK can open (TPM 2.0 part 1, 24)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

EkPublicKey = RSAPublicKey | EllipticCurvePublicKey


def make_credential(ek: EkPublicKey, ak_name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET), sizes included."""
    raise NotImplementedError
