"""Finger minutiae records (ISO/IEC 19794-2:2005, clause 7) as tests write them, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Row = tuple[int, int, int, int, int]  # type, x and y in dots, angle in 256ths, quality


def record(rows: Sequence[Row], *, dots_per_cm: int = 197, views: int = 1) -> bytearray:
    """Return a record of one finger: 24-byte header, 4-byte view, 6 bytes per minutia, no extended data."""
    size = 24 + 4 + 6 * len(rows) + 2
    data = bytearray(b"FMR\x00 20\x00" + struct.pack(">I", size) + bytes(2))
    data += struct.pack(">HHHHBB", 320, 360, dots_per_cm, dots_per_cm, views, 0)
    data += bytes([2, 0x00, 80, len(rows)])
    for kind, x, y, angle, quality in rows:
        data += struct.pack(">HHBB", kind << 14 | x, y, angle, quality)
    return data + bytes(2)
