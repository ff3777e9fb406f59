"""A cursor over bytes from outside: every read is bounded and says what it was for."""

from __future__ import annotations

import struct
from typing import Any, Literal


class Truncated(Exception):
    """A structure says that it is longer than what is there."""


class Reader:
    """Takes values off the front of a buffer: little endian as firmware writes them, big endian as a TPM does."""

    def __init__(self, data: bytes, order: Literal["little", "big"] = "little") -> None:
        self._data = data
        self._offset = 0
        self._order: Literal["little", "big"] = order

    @property
    def left(self) -> int:
        return len(self._data) - self._offset

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes; Truncated, naming `what`, if fewer are left."""
        if not 0 <= size <= self.left:
            raise Truncated(f"{what} of {size} bytes at offset {self._offset}, but only {self.left} are left")
        start, self._offset = self._offset, self._offset + size
        return self._data[start : self._offset]

    @property
    def offset(self) -> int:
        return self._offset

    def peek(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the fields of `layout` without consuming them; Truncated if they are not all there."""
        if layout.size > self.left:
            raise Truncated(f"record of {layout.size} bytes at offset {self._offset}, but only {self.left} are left")
        return layout.unpack_from(self._data, self._offset)

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the fields of `layout` and consume them; Truncated if they are not all there."""
        fields = self.peek(layout)
        self._offset += layout.size
        return fields

    def rest(self) -> bytes:
        """Return what is left without consuming it."""
        return self._data[self._offset :]

    def u8(self, what: str) -> int:
        return self._number(1, what)

    def u16(self, what: str) -> int:
        return self._number(2, what)

    def u32(self, what: str) -> int:
        return self._number(4, what)

    def u64(self, what: str) -> int:
        return self._number(8, what)

    def _number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), self._order)
