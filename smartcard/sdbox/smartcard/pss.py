"""RSASSA-PSS for cards that only do the RSA operation itself: the padding comes from the box (RFC 8017, 9.1.1)."""

from __future__ import annotations

import hashlib
import os
from typing import Final

DIGEST_SIZE: Final = 32
TRAILER: Final = 0xBC


def pad_pss_sha256(digest: bytes, bits: int) -> bytes:
    """Return EMSA-PSS-ENCODE of a SHA-256 `digest` for a modulus of `bits`: SHA-256, MGF1, 32 bytes of salt.

    As long as the modulus; the most significant bit is clear.
    """
    if len(digest) != DIGEST_SIZE:
        raise ValueError("a SHA-256 digest has 32 bytes")
    size = (bits + 6) // 8  # emBits is one less than the modulus
    salt = os.urandom(DIGEST_SIZE)
    inner = hashlib.sha256(bytes(8) + digest + salt).digest()
    block = bytes(size - 2 * DIGEST_SIZE - 2) + b"\x01" + salt
    masked = bytearray(a ^ b for a, b in zip(block, _mask(inner, len(block)), strict=True))
    masked[0] &= 0xFF >> (8 * size - (bits - 1))
    return (bytes(masked) + inner + bytes([TRAILER])).rjust((bits + 7) // 8, b"\x00")


def _mask(seed: bytes, size: int) -> bytes:
    """MGF1 with SHA-256 (RFC 8017, B.2.1)."""
    blocks = (hashlib.sha256(seed + counter.to_bytes(4, "big")).digest() for counter in range(size // DIGEST_SIZE + 1))
    return b"".join(blocks)[:size]
