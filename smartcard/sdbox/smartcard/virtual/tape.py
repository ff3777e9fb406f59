"""What an emulated card was told and what it answered, one JSON line a command, for whoever measures or replays it.

A tape holds the PIN of an emulated card: it is written only to a file descriptor that the caller passes, which should
be memory (memfd_create) or a pipe.
"""

from __future__ import annotations

import os

import msgspec

from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.passing import PassingCard


class Taped(msgspec.Struct, frozen=True):
    """One command and its answer; both empty: the card lost its power, or was reset."""

    command: bytes
    answer: bytes

    def __repr__(self) -> str:
        """Leave the bytes out: there may be a PIN in them (S8)."""
        return "Taped()"


class TapedCard(PassingCard):
    """Passes everything on, and writes it to `descriptor`. Only the wire's thread writes."""

    def __init__(self, card: VirtualCard, descriptor: int) -> None:
        super().__init__(card)
        self._descriptor = descriptor

    def power(self) -> None:
        super().power()
        self._write(Taped(b"", b""))

    def process(self, apdu: bytes) -> bytes:
        answer = super().process(apdu)
        self._write(Taped(apdu, answer))
        return answer

    def _write(self, taped: Taped) -> None:
        os.write(self._descriptor, msgspec.json.encode(taped) + b"\n")


def read_tape(content: bytes) -> tuple[Taped, ...]:
    """Return what was taped, in its order. msgspec.MsgspecError if it is no tape."""
    return tuple(msgspec.json.decode(line, type=Taped) for line in content.splitlines())
