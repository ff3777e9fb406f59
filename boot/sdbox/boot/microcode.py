"""The processor's microcode revision, as the verified initrd measures it: firmware logs none (0 of 39 public logs do).

One EV_CPU_MICROCODE event in PCR 15, whose digest is over its data (image/initrd/measure.c); the box appends the record
to the firmware's log (notes.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MICROCODE_PCR = 15
_LABEL = b"sdbox-microcode-v1\0"
_FIELDS = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Microcode:
    """`processor` is CPUID leaf 1, EAX; `revision` what MSR 0x8B says once it is loaded."""

    processor: int
    revision: int

    def __str__(self) -> str:
        """Return it for people and records: `000306a9:0x21`."""
        return f"{self.name}:0x{self.revision:x}"

    @property
    def name(self) -> str:
        """Return the processor as policies name it: 8 hex digits."""
        return f"{self.processor:08x}"


def encode_microcode(microcode: Microcode) -> bytes:
    """Return the event's data."""
    return _LABEL + _FIELDS.pack(microcode.processor, microcode.revision)


def parse_microcode(data: bytes) -> Microcode:
    """Return what an event's data says; ValueError if it is of another form."""
    if not data.startswith(_LABEL) or len(data) != len(_LABEL) + _FIELDS.size:
        raise ValueError("not a microcode event")
    return Microcode(*_FIELDS.unpack_from(data, len(_LABEL)))
