"""What the box and its fingerprint sensor say to each other on a serial line. Standard library only.

    "SF" | kind, 1 byte | ticket, 4 bytes | length, 2 bytes | payload | CRC-32 of all before, 4 bytes; big endian

The box draws a ticket for each touch it wants, and says ASK with it again and again while it wants it: a sensor that
has not heard it for `LEASE_SECONDS` stops waiting, so that nothing is captured for a box that went away. Every answer
carries the ticket it is for. One ASK ticket has at most one TEMPLATE.

    box to sensor:  ASK, CANCEL
    sensor to box:  WAITING (put the finger down), TEMPLATE (ISO/IEC 19794-2 record), NOBODY (its own limit), FAULT
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAGIC: Final = b"SF"
HEADER: Final = struct.Struct(">2sBIH")
CHECK: Final = struct.Struct(">I")
PAYLOAD_LIMIT: Final = 4096  # a record with 255 minutiae has 1562 bytes; what extends it is of no use to a card
BUFFER_LIMIT: Final = 2 * (HEADER.size + PAYLOAD_LIMIT + CHECK.size)
LEASE_SECONDS: Final = 2.0
REPEAT_SECONDS: Final = 0.5


class Kind(IntEnum):
    """Kinds of frames."""

    ASK = 1
    CANCEL = 2
    WAITING = 3
    TEMPLATE = 4
    NOBODY = 5
    FAULT = 6


@dataclass(frozen=True, slots=True, repr=False)
class SensorFrame:
    """One frame. No `repr`: its payload may be a template (S8). Whoever took it from a `FrameReader` wipes it."""

    kind: Kind
    ticket: int
    payload: bytearray


def encode(kind: Kind, ticket: int, payload: bytes | bytearray = b"") -> bytearray:
    """Return the bytes of a frame, to be wiped if it held a template."""
    if len(payload) > PAYLOAD_LIMIT:
        raise ValueError("payload too long")
    frame = bytearray(HEADER.pack(MAGIC, kind, ticket, len(payload)))
    frame += payload
    frame += CHECK.pack(zlib.crc32(frame))
    return frame


class FrameReader:
    """Finds frames in what comes over the line; noise, broken and unknown frames are skipped and counted."""

    def __init__(self) -> None:
        self.skipped = 0  # bytes
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[SensorFrame]:
        """Take some bytes and return the frames that are complete."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        if len(self._buffer) > BUFFER_LIMIT:
            self._drop(len(self._buffer))
        return frames

    def wipe(self) -> None:
        """Forget what is there."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()

    def _next(self) -> SensorFrame | None:
        """Return the first frame; None if more bytes are needed."""
        while True:
            start = self._buffer.find(MAGIC)
            noise = start if start >= 0 else max(0, len(self._buffer) - len(MAGIC) + 1)
            self._drop(noise)
            if start < 0 or len(self._buffer) < HEADER.size:
                return None
            _, kind, ticket, length = HEADER.unpack_from(self._buffer)
            end = HEADER.size + length
            if length <= PAYLOAD_LIMIT and len(self._buffer) < end + CHECK.size:
                return None
            if length <= PAYLOAD_LIMIT and kind in set(Kind) and self._is_whole(end):
                frame = SensorFrame(Kind(kind), ticket, self._buffer[HEADER.size : end])
                self._take(end + CHECK.size)
                return frame
            self._drop(1)

    def _is_whole(self, end: int) -> bool:
        with memoryview(self._buffer) as view:
            return bytes(view[end : end + CHECK.size]) == CHECK.pack(zlib.crc32(view[:end]))

    def _drop(self, count: int) -> None:
        self.skipped += count
        self._take(count)

    def _take(self, count: int) -> None:
        self._buffer[:count] = bytes(count)  # before it is moved away, for what it may have held
        del self._buffer[:count]
