"""Event logs made to measure, in both formats."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

SPEC_ID = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 1) + struct.pack("<HH", 0x000B, 32) + b"\0"


@dataclass(frozen=True, slots=True)
class Record:
    """One event; its digest is that of its data unless given."""

    pcr: int
    type: int
    data: bytes
    digest: bytes | None = None


def old_record(pcr: int, event_type: int, data: bytes, digest: bytes = bytes(20)) -> bytes:
    """Return a TCG_PCR_EVENT."""
    return struct.pack("<II", pcr, event_type) + digest + struct.pack("<I", len(data)) + data


def agile_record(record: Record) -> bytes:
    """Return a TCG_PCR_EVENT2 with a SHA-256 digest."""
    digest = hashlib.sha256(record.data).digest() if record.digest is None else record.digest
    head = struct.pack("<IIIH", record.pcr, record.type, 1, 0x000B) + digest
    return head + struct.pack("<I", len(record.data)) + record.data


def agile_log(*records: Record, spec_id: bytes = SPEC_ID) -> bytes:
    """Return a crypto-agile log with a SHA-256 bank."""
    return old_record(0, 3, spec_id) + b"".join(agile_record(record) for record in records)
