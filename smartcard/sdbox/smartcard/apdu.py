"""Command APDUs as the box sends them: long ones chained, answers collected part by part (ISO 7816-4, 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SHORT: Final = 255
CHAINED: Final = 0x10
GET_RESPONSE: Final = bytes((0x00, 0xC0, 0x00, 0x00))
MORE_DATA, WRONG_LE = 0x61, 0x6C
OK: Final = 0x9000
TRIES_LEFT, BLOCKED = 0x63C0, 0x6983
SELECT: Final = bytes.fromhex("00A40400")  # by application identifier (ISO 7816-4, 11.2.2)
ANSWER_LIMIT: Final = 16 * 1024  # no object of a card is as long: a card that goes on is not listened to

Transmit = Callable[[bytearray], bytes]


class ApduError(Exception):
    """A card's answer is none: too short, endless."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: data, and the status word."""

    data: bytes
    status: int


def select(aid: bytes) -> bytes:
    """Return the SELECT of an application."""
    return SELECT + bytes([len(aid)]) + aid + b"\x00"


def tries_in(status: int) -> int | None:
    """Return how many tries the status word of a VERIFY leaves (ISO 7816-4, 11.6.6); None if it does not say."""
    if status == BLOCKED:
        return 0
    return status & 0x0F if status & 0xFFF0 == TRIES_LEFT else None


def exchange(transmit: Transmit, header: bytes, data: bytes | bytearray = b"", *, asks: bool = True) -> Answer:
    """Send one command (CLA INS P1 P2) with `data`; `asks`: an answer is expected. What was sent is wiped.

    ApduError if the answer is malformed; what `transmit` raises passes.
    """
    for start in range(0, max(1, len(data)), SHORT):
        part = memoryview(data)[start : start + SHORT]
        last = start + SHORT >= len(data)
        command = bytearray(header)
        command[0] |= 0 if last else CHAINED
        if part:
            command += bytes([len(part)])
            command += part
        if last and asks:
            command += b"\x00"
        answer = _send(transmit, command, asks=last and asks)
        if not last and answer.status != OK:
            return answer
    return answer


def _send(transmit: Transmit, command: bytearray, *, asks: bool) -> Answer:
    try:
        answer = _split(transmit(command))
        if asks and answer.status >> 8 == WRONG_LE:
            command[-1] = answer.status & 0xFF
            answer = _split(transmit(command))
    finally:
        command[:] = bytes(len(command))
    collected, status = bytearray(answer.data), answer.status
    while status >> 8 == MORE_DATA and len(collected) <= ANSWER_LIMIT:
        more = _split(transmit(bytearray(GET_RESPONSE + bytes([status & 0xFF]))))
        collected += more.data
        if not more.data and more.status >> 8 == MORE_DATA:
            raise ApduError("a card's answer without end")
        status = more.status
    if len(collected) > ANSWER_LIMIT:
        raise ApduError("a card's answer is far too long")
    return Answer(bytes(collected), status)


def _split(response: bytes) -> Answer:
    if len(response) < 2:
        raise ApduError("a card's answer has no status word")
    return Answer(response[:-2], int.from_bytes(response[-2:], "big"))
