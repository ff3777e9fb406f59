"""The two key templates of a box, as TPMT_PUBLIC bytes. Fixed: the same TPM gives the same keys at every boot.

So what is in a certificate, the modulus, tells the whole public area, and with it the Name.
"""

from __future__ import annotations

import struct

from sdbox.attestation.structures import Algorithm, Attributes

_BOTH = Attributes.FIXED_TPM | Attributes.FIXED_PARENT | Attributes.SENSITIVE_DATA_ORIGIN | Attributes.RESTRICTED
_AK_ATTRIBUTES = _BOTH | Attributes.USER_WITH_AUTH | Attributes.NO_DA | Attributes.SIGN
_EK_ATTRIBUTES = _BOTH | Attributes.ADMIN_WITH_POLICY | Attributes.DECRYPT
_UNIQUE = 256  # bytes of the modulus
_P256, _CFB, _AES_BITS, _RSA_BITS = 0x0003, 0x0043, 128, 2048

# PolicySecret(TPM_RH_ENDORSEMENT), "PolicyA" of the TCG EK Credential Profile 2.5, B.6.2.
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


def _key(kind: Algorithm, attributes: Attributes, policy: bytes) -> bytes:
    return struct.pack(">HHIH", kind, Algorithm.SHA256, attributes, len(policy)) + policy


# ECC P-256, ECDSA with SHA-256, restricted signing; empty coordinates in `unique`.
AK_TEMPLATE = _key(Algorithm.ECC, _AK_ATTRIBUTES, b"") + struct.pack(
    ">7H", Algorithm.NULL, Algorithm.ECDSA, Algorithm.SHA256, _P256, Algorithm.NULL, 0, 0
)

# L-1 of the same profile, B.3.3: RSA 2048, AES-128-CFB, 256 zero bytes in `unique`.
EK_TEMPLATE = (
    _key(Algorithm.RSA, _EK_ATTRIBUTES, EK_POLICY)
    + struct.pack(">5H", Algorithm.AES, _AES_BITS, _CFB, Algorithm.NULL, _RSA_BITS)
    + struct.pack(">IH", 0, _UNIQUE)
    + bytes(_UNIQUE)
)


def is_default_ek(public: bytes) -> bool:
    """Whether a TPMT_PUBLIC is that template with a modulus: a key that decrypts and never signs (checklist 3)."""
    return len(public) == len(EK_TEMPLATE) and public[:-_UNIQUE] == EK_TEMPLATE[:-_UNIQUE]
