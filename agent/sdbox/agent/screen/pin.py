"""The PIN while it is typed: a fixed buffer, never copied into a string, overwritten as soon as it was sent.

Python strings cannot be wiped, and GtkPasswordEntryBuffer hands its text out as one; so the digits live here and the
screen draws only how many there are (S8).
"""

from __future__ import annotations

import os

MINIMUM = 4  # a shorter PIN cannot be right: it must not cost a try of the card (S7)
MAXIMUM = 16


class PinBuffer:
    """Up to MAXIMUM digits."""

    __slots__ = ("_bytes", "_length")

    def __init__(self) -> None:
        self._bytes = bytearray(MAXIMUM)  # one allocation for good: growing would leave copies behind
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, digit: str) -> None:
        """Append one ASCII digit; a full buffer ignores it."""
        if self._length < MAXIMUM:
            self._bytes[self._length] = ord(digit)
            self._length += 1

    def erase(self) -> None:
        if self._length:
            self._length -= 1
            self._bytes[self._length] = 0

    def wipe(self) -> None:
        for index in range(MAXIMUM):
            self._bytes[index] = 0
        self._length = 0

    def into_pipe(self) -> int:
        """Return the read end of a pipe that holds just the digits, and wipe the buffer. The caller closes it."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            os.write(writer, memoryview(self._bytes)[: self._length])  # below PIPE_BUF: never partial, never blocks
        finally:
            os.close(writer)
            self.wipe()
        return reader
