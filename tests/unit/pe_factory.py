"""PE images made to measure: header, sections, optional certificate table."""

from __future__ import annotations

import struct

_HEADERS = 0x400


def make_pe(sections: dict[str, bytes], *, certificate: bytes = b"", virtual: dict[str, int] | None = None) -> bytes:
    """Return a PE32+ file; `virtual` overrides a section's size in memory."""
    table, body, offset = b"", b"", _HEADERS
    for name, data in sections.items():
        stored = data + bytes(-len(data) % 512)
        size = (virtual or {}).get(name, len(data))
        table += struct.pack("<8sIIII16x", name.encode(), size, 0x1000, len(stored), offset)
        body += stored
        offset += len(stored)
    directories = bytes(32) + struct.pack("<II", offset if certificate else 0, len(certificate)) + bytes(88)
    optional = struct.pack("<H58xI44xI", 0x20B, _HEADERS, 16) + directories
    headers = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0"
    headers += struct.pack("<HH12xHH", 0x8664, len(sections), len(optional), 0) + optional + table
    return headers + bytes(_HEADERS - len(headers)) + body + certificate
