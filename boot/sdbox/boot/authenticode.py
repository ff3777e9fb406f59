"""The Authenticode digest of a PE image: what firmware checks the signature over and measures into PCR 4.

Windows Authenticode Portable Executable Signature Format, "Calculating the PE image hash"; EDK2 does the same.
"""

from __future__ import annotations

import hashlib

from sdbox.boot.pe import PeError, PeImage, parse_pe


def authenticode_sha256(data: bytes) -> bytes:
    """Return the SHA-256 Authenticode digest of a PE file, signed or not; PeError if it is not one."""
    image = parse_pe(data)
    digest = hashlib.sha256()
    view = memoryview(data)
    for start, end in _ranges(image):
        digest.update(view[start:end])
    return digest.digest()


def _ranges(image: PeImage) -> list[tuple[int, int]]:
    """Everything but the checksum, the security directory entry and the certificate table."""
    ranges = [(0, image.checksum_at), (image.checksum_at + 4, image.security_at)]
    ranges.append((image.security_at + 8, image.headers_size))
    hashed = image.headers_size
    for section in sorted((s for s in image.sections if s.size), key=lambda s: s.offset):
        if section.offset < hashed:
            raise PeError(f"section {section.name!r} overlaps what lies before it")
        ranges.append((section.offset, section.offset + section.size))
        hashed += section.size
    end = len(image.data) - image.certificates[1]
    if hashed > end:
        raise PeError("sections reach into the certificate table")
    return [*ranges, (hashed, end)]
