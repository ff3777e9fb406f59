"""Faults on demand: a card that misbehaves, around any emulated card."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import Final, Protocol

from sdbox.smartcard.virtual.apdu import VirtualCard

SLOW_SECONDS: Final = 1.0
INS_VERIFY: Final = 0x20
CASE_1: Final = 4


class Fault(StrEnum):
    """What may be wrong with a card."""

    BLOCKED = "blocked"  # its retry counter is at zero
    MUTE = "mute"  # it stops answering at the first login
    SLOW = "slow"  # each command takes a second longer


class Blockable(VirtualCard, Protocol):
    """A card with a retry counter."""

    def block(self) -> None:
        """Bring the counter to zero."""


class _Troubled:
    """Passes everything on; subclasses spoil `process`."""

    def __init__(self, card: VirtualCard) -> None:
        self._card = card
        self._gone = threading.Event()

    @property
    def atr(self) -> bytes:
        return self._card.atr

    def power(self) -> None:
        self._gone.clear()
        self._card.power()

    def pulled(self) -> None:
        self._gone.set()
        self._card.pulled()

    def process(self, apdu: bytes) -> bytes:
        return self._card.process(apdu)


class MuteCard(_Troubled):
    """Never answers the VERIFY that would log in, until it is pulled."""

    def process(self, apdu: bytes) -> bytes:
        if len(apdu) > CASE_1 and apdu[1] == INS_VERIFY:
            self._gone.wait()
            return b""
        return super().process(apdu)


class SlowCard(_Troubled):
    """Takes a second more for each command."""

    def process(self, apdu: bytes) -> bytes:
        self._gone.wait(SLOW_SECONDS)
        return super().process(apdu)


def with_fault(card: Blockable, fault: Fault | None) -> VirtualCard:
    """Return `card` with `fault`."""
    if fault is Fault.BLOCKED:
        card.block()
    if fault is Fault.MUTE:
        return MuteCard(card)
    if fault is Fault.SLOW:
        return SlowCard(card)
    return card
