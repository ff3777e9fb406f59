"""Reading a GPT (UEFI 2.10, chapter 5.3) of a disk that we wrote: where its partitions are."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sdbox.image.request import ImageError

SECTOR = 512
HEADER = struct.Struct("<8s4sIII QQQQ 16s QIII")
ENTRY = struct.Struct("<16s16sQQQ72s")


@dataclass(frozen=True, slots=True)
class Partition:
    """`start` and `size` in bytes."""

    kind: UUID
    identity: UUID
    start: int
    size: int


def read_partitions(disk: Path) -> list[Partition]:
    """Return the used partitions in the table's order; ImageError if there is no GPT."""
    with disk.open("rb") as file:
        file.seek(SECTOR)
        header = file.read(HEADER.size)
        if len(header) < HEADER.size or not header.startswith(b"EFI PART"):
            raise ImageError(f"{disk} has no GPT")
        *_, first, count, size, _ = HEADER.unpack(header)
        file.seek(first * SECTOR)
        entries = [file.read(size) for _ in range(count)]
    return [_partition(entry) for entry in entries if any(entry[:16])]


def _partition(entry: bytes) -> Partition:
    kind, identity, first, last, _, _ = ENTRY.unpack(entry[: ENTRY.size])
    return Partition(UUID(bytes_le=kind), UUID(bytes_le=identity), first * SECTOR, (last - first + 1) * SECTOR)
