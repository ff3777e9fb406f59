"""How much a card was asked: commands and bytes both ways, around any emulated card."""

from __future__ import annotations

from sdbox.smartcard.virtual.apdu import VirtualCard


class CountedCard:
    """Passes everything on and counts it. Only the wire's thread counts; `take` may be called from another."""

    def __init__(self, card: VirtualCard) -> None:
        self._card = card
        self._commands = 0
        self._bytes = 0
        self._taken = (0, 0)

    @property
    def atr(self) -> bytes:
        return self._card.atr

    def power(self) -> None:
        self._card.power()

    def pulled(self) -> None:
        self._card.pulled()

    def process(self, apdu: bytes) -> bytes:
        answer = self._card.process(apdu)
        self._commands += 1
        self._bytes += len(apdu) + len(answer)
        return answer

    def take(self) -> tuple[int, int]:
        """Return the answered commands, and the bytes of both, since the last call."""
        now, before = (self._commands, self._bytes), self._taken
        self._taken = now
        return now[0] - before[0], now[1] - before[1]
