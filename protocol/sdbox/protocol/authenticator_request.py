"""The CertificateRequest that an exported authenticator answers (RFC 9261, section 4; RFC 8446, section 4.3.2).

It is never sent: both ends build the same bytes from the context of `contexts.py`. The two halves of the card proof
share this file and nothing else, so that each checks the other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

ECDSA_P256_SHA256: Final = 0x0403
ECDSA_P384_SHA384: Final = 0x0503
RSA_PSS_SHA256: Final = 0x0804  # rsa_pss_rsae_sha256
RSA_PKCS1_SHA256: Final = 0x0420  # rsa_pkcs1_sha256_legacy: for clients whose card knows no PSS (RFC 9963)
SCHEMES: Final = (ECDSA_P256_SHA256, ECDSA_P384_SHA384, RSA_PSS_SHA256, RSA_PKCS1_SHA256)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What the gateway asks for: `encoded` is the whole handshake message with its 4-byte header."""

    context: bytes
    schemes: tuple[int, ...]
    encoded: bytes


def certificate_request(context: bytes, schemes: tuple[int, ...] = SCHEMES) -> CertificateRequest:
    """Build the request for a `context` of 1 to 255 bytes, used once; its only extension is signature_algorithms."""
    if not 0 < len(context) < 1 << 8:
        raise ValueError("a request context has 1 to 255 bytes")
    listed = struct.pack(f"!{len(schemes)}H", *schemes)
    algorithms = struct.pack("!HHH", 13, 2 + len(listed), len(listed)) + listed
    body = bytes([len(context)]) + context + struct.pack("!H", len(algorithms)) + algorithms
    return CertificateRequest(context, schemes, b"\x0d" + len(body).to_bytes(3, "big") + body)
