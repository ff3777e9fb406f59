"""A card around a card: what the ones that watch, count, tape, cut and spoil another have in common."""

from __future__ import annotations

import threading

from sdbox.smartcard.virtual.apdu import VirtualCard


class PassingCard:
    """Passes everything on."""

    def __init__(self, card: VirtualCard) -> None:
        self._card = card

    @property
    def atr(self) -> bytes:
        return self._card.atr

    def power(self) -> None:
        self._card.power()

    def pulled(self) -> None:
        self._card.pulled()

    def process(self, apdu: bytes) -> bytes:
        return self._card.process(apdu)


class PullableCard(PassingCard):
    """Notices that it was pulled: `_gone` ends a wait of its."""

    def __init__(self, card: VirtualCard) -> None:
        super().__init__(card)
        self._gone = threading.Event()

    def power(self) -> None:
        self._gone.clear()
        super().power()

    def pulled(self) -> None:
        self._gone.set()
        super().pulled()
