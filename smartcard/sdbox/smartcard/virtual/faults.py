"""Faults on demand: a card that misbehaves, around any emulated card."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from sdbox.smartcard.virtual.apdu import Status, VirtualCard, word
from sdbox.smartcard.virtual.counter import is_login
from sdbox.smartcard.virtual.sensor import Report

SLOW_SECONDS: Final = 1.0
# PERFORM SECURITY OPERATION, SmartCard-HSM's SIGN, GENERAL AUTHENTICATE, INTERNAL AUTHENTICATE
INS_SIGN: Final = (0x2A, 0x68, 0x87, 0x88)
OVERSIZED: Final = 65_000  # more than any extended answer that a module asks for; the wires carry 65,535
UNKNOWN_ATR: Final = bytes.fromhex("3B8A80014E6F74204F7572730071")  # "Not Ours"


class Fault(StrEnum):
    """What may be wrong with a card."""

    BLOCKED = "blocked"  # its retry counter is at zero
    FORGETFUL = "forgetful"  # it denies every signature: 6982, as if nobody had logged in
    GARBAGE = "garbage"  # from the first login on it answers noise that ends with 9000
    HANGS = "hangs"  # it never answers a signature command, until it is pulled
    MUTE = "mute"  # it stops answering at the first login
    OVERSIZED = "oversized"  # from the first login on its answers are far too long
    SLOW = "slow"  # each command takes a second longer
    UNKNOWN = "unknown"  # its ATR is of no kind we know


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
        if is_login(apdu):
            self._gone.wait()
            return b""
        return super().process(apdu)


class SlowCard(_Troubled):
    """Takes a second more for each command."""

    def process(self, apdu: bytes) -> bytes:
        self._gone.wait(SLOW_SECONDS)
        return super().process(apdu)


class NoisyCard(_Troubled):
    """From the first login on, `size` random bytes and 9000 are its answer to everything."""

    def __init__(self, card: VirtualCard, size: int) -> None:
        super().__init__(card)
        self._size = size
        self._spoilt = False

    def process(self, apdu: bytes) -> bytes:
        self._spoilt = self._spoilt or is_login(apdu)
        return os.urandom(self._size) + word(Status.OK) if self._spoilt else super().process(apdu)


class ForgetfulCard(_Troubled):
    """Says 6982 to every signature."""

    def process(self, apdu: bytes) -> bytes:
        return word(Status.NOT_ALLOWED) if apdu[1:2] and apdu[1] in INS_SIGN else super().process(apdu)


class HangingCard(_Troubled):
    """Says `hangs` when it is to sign, and answers no more until it is pulled: a removal within a command."""

    def __init__(self, card: VirtualCard, report: Report) -> None:
        super().__init__(card)
        self._report = report

    def process(self, apdu: bytes) -> bytes:
        if apdu[1:2] and apdu[1] in INS_SIGN:
            self._report("hangs")
            self._gone.wait()
            return b""
        return super().process(apdu)


class UnknownCard(_Troubled):
    """A card of no known kind."""

    @property
    def atr(self) -> bytes:
        return UNKNOWN_ATR


def with_fault(card: Blockable, fault: Fault | None, report: Report) -> VirtualCard:
    """Return `card` with `fault`."""
    if fault is None:
        return card
    if fault is Fault.BLOCKED:
        card.block()
        return card
    troubled: dict[Fault, Callable[[], VirtualCard]] = {
        Fault.FORGETFUL: lambda: ForgetfulCard(card),
        Fault.GARBAGE: lambda: NoisyCard(card, 32),
        Fault.HANGS: lambda: HangingCard(card, report),
        Fault.MUTE: lambda: MuteCard(card),
        Fault.OVERSIZED: lambda: NoisyCard(card, OVERSIZED),
        Fault.SLOW: lambda: SlowCard(card),
        Fault.UNKNOWN: lambda: UnknownCard(card),
    }
    return troubled[fault]()
