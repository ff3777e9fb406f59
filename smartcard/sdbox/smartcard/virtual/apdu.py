"""Command and response APDUs (ISO 7816-4, clause 5.1), and what every emulated card has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

EXTENDED = 65536
SHORT = 256
CASE_2_EXTENDED = 3
HEADER = 4
CASE_2_SHORT = 5


class Status(IntEnum):
    """Status words used here (ISO 7816-4, table 5 and 6)."""

    OK = 0x9000
    END_REACHED = 0x6282
    NO_TOUCH = 0x6286
    WRONG_LENGTH = 0x6700
    NOT_ALLOWED = 0x6982
    BLOCKED = 0x6983
    INVALID_DATA = 0x6984
    CONDITIONS = 0x6985
    NO_EF = 0x6986
    NO_CHANNEL = 0x6987
    BAD_CHANNEL = 0x6988
    WRONG_DATA = 0x6A80
    NOT_SUPPORTED = 0x6A81
    NOT_FOUND = 0x6A82
    WRONG_PARAMETERS = 0x6A86
    WRONG_OFFSET = 0x6B00
    NO_REFERENCE = 0x6A88
    NO_INSTRUCTION = 0x6D00
    NO_CLASS = 0x6E00


TRIES_LEFT = 0x63C0
MORE_DATA = 0x6100


def word(status: int) -> bytes:
    """Return the two bytes that end a response."""
    return status.to_bytes(2, "big")


@dataclass(frozen=True, slots=True, repr=False)
class Command:
    """A command. `length` is Ne, None without an Le field. No `repr`: `data` may be a PIN (S8)."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    length: int | None


def parse_command(apdu: bytes) -> Command:
    """Read a short or extended command; ValueError if its lengths do not add up."""
    if len(apdu) < HEADER:
        raise ValueError("a command has four bytes or more")
    (cla, ins, p1, p2), body = apdu[:HEADER], apdu[HEADER:]
    if len(body) <= 1:
        return Command(cla, ins, p1, p2, b"", (body[0] or SHORT) if body else None)
    if body[0] == 0 and len(body) == CASE_2_EXTENDED:
        return Command(cla, ins, p1, p2, b"", int.from_bytes(body[1:], "big") or EXTENDED)
    start, most = (3, EXTENDED) if body[0] == 0 else (1, SHORT)
    end = start + int.from_bytes(body[:start], "big")
    tail = body[end:]
    if end > len(body) or len(tail) > 2:
        raise ValueError("lengths of the command do not add up")
    return Command(cla, ins, p1, p2, body[start:end], (int.from_bytes(tail, "big") or most) if tail else None)


class VirtualCard(Protocol):
    """A card as a wire sees it."""

    @property
    def atr(self) -> bytes: ...

    def power(self) -> None:
        """Power on, off or reset: what is not stored is forgotten."""

    def process(self, apdu: bytes) -> bytes:
        """Answer one command."""

    def pulled(self) -> None:
        """The card leaves the reader: whatever it waits for is over. Called from another thread."""
