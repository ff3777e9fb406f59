"""How much a card was asked: commands and bytes both ways, and logins, around any emulated card."""

from __future__ import annotations

from typing import Final

from sdbox.smartcard.virtual.apdu import CASE_2_SHORT, HEADER, VirtualCard
from sdbox.smartcard.virtual.passing import PassingCard
from sdbox.smartcard.virtual.sensor import Report

INS_VERIFY: Final = 0x20
FORGET: Final = 0xFF  # P1 that ends the verified state
SENSOR: Final = 0x81  # SmartCard-HSM: VERIFY of this reference with Le only reads a finger
SECURED, PROPRIETARY = 0x0C, 0x80  # bits of CLA


def is_login(apdu: bytes) -> bool:
    """Whether the command is a VERIFY that may cost a try, and not a question for the counter.

    Data makes it one. Without data it is a question, with an Le (as over T=0) or none, but for SmartCard-HSM's
    reference 81. Through a GoID's channel nothing but the header can be read: there CLA 8C is a login, 0C a question.
    """
    if len(apdu) <= HEADER or apdu[1] != INS_VERIFY or apdu[2] == FORGET:
        return False
    if apdu[0] & SECURED == SECURED:
        return bool(apdu[0] & PROPRIETARY)
    return len(apdu) > CASE_2_SHORT or apdu[3] == SENSOR


class WatchedCard(PassingCard):
    """Passes everything on, and reports `asked` for each login before the card, or what is wrong with it, has it."""

    def __init__(self, card: VirtualCard, report: Report) -> None:
        super().__init__(card)
        self._report = report

    def process(self, apdu: bytes) -> bytes:
        if is_login(apdu):
            self._report("asked")
        return super().process(apdu)


class CountedCard(PassingCard):
    """Passes everything on and counts it. Only the wire's thread counts; `take` may be called from another."""

    def __init__(self, card: VirtualCard) -> None:
        super().__init__(card)
        self._commands = 0
        self._bytes = 0
        self._taken = (0, 0)

    def process(self, apdu: bytes) -> bytes:
        answer = super().process(apdu)
        self._commands += 1
        self._bytes += len(apdu) + len(answer)
        return answer

    def take(self) -> tuple[int, int]:
        """Return the answered commands, and the bytes of both, since the last call."""
        now, before = (self._commands, self._bytes), self._taken
        self._taken = now
        return now[0] - before[0], now[1] - before[1]
