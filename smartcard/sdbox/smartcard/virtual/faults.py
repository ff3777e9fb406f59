"""Faults on demand: a card that misbehaves, around any emulated card."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from sdbox.smartcard.virtual.apdu import Status, VirtualCard, word
from sdbox.smartcard.virtual.counter import is_login
from sdbox.smartcard.virtual.passing import PullableCard
from sdbox.smartcard.virtual.sensor import Report

SLOW_SECONDS: Final = 0.1  # a worker sends up to 90 commands within its 30 s
# PERFORM SECURITY OPERATION, SmartCard-HSM's SIGN, GENERAL AUTHENTICATE, INTERNAL AUTHENTICATE
INS_SIGN: Final = (0x2A, 0x68, 0x87, 0x88)
OVERSIZED: Final = 65_000  # more than any extended answer that a module asks for; the wires carry 65,535
UNKNOWN_ATR: Final = bytes.fromhex("3B8A80014E6F74204F7572730071")  # "Not Ours"


class Fault(StrEnum):
    """What may be wrong with a card. GARBAGE, MUTE and OVERSIZED begin at the first login, or at once."""

    BLOCKED = "blocked"  # its retry counter is at zero
    FORGETFUL = "forgetful"  # it denies every signature: 6982, as if nobody had logged in
    GARBAGE = "garbage"  # it answers noise that ends with 9000
    HANGS = "hangs"  # it never answers a signature command, until it is pulled
    MUTE = "mute"  # it does not answer, until it is pulled
    OVERSIZED = "oversized"  # its answers are far too long
    SLOW = "slow"  # each command takes as long as a slow real card's longest
    UNKNOWN = "unknown"  # its ATR is of no kind we know


class Blockable(VirtualCard, Protocol):
    """A card with a retry counter."""

    def block(self) -> None:
        """Bring the counter to zero."""


class _Spoilt(PullableCard):
    """Has its fault from the first login on, or `at_once`."""

    def __init__(self, card: VirtualCard, *, at_once: bool) -> None:
        super().__init__(card)
        self._begun = at_once

    def process(self, apdu: bytes) -> bytes:
        self._begun = self._begun or is_login(apdu)
        return self._spoil() if self._begun else super().process(apdu)

    def _spoil(self) -> bytes:
        raise NotImplementedError


class MuteCard(_Spoilt):
    """Answers no more, until it is pulled."""

    def _spoil(self) -> bytes:
        self._gone.wait()
        return b""


class SlowCard(PullableCard):
    """Takes its time for each command."""

    def process(self, apdu: bytes) -> bytes:
        self._gone.wait(SLOW_SECONDS)
        return super().process(apdu)


class NoisyCard(_Spoilt):
    """Answers `size` random bytes and 9000 to everything."""

    def __init__(self, card: VirtualCard, size: int, *, at_once: bool) -> None:
        super().__init__(card, at_once=at_once)
        self._size = size

    def _spoil(self) -> bytes:
        return os.urandom(self._size) + word(Status.OK)


class ForgetfulCard(PullableCard):
    """Says 6982 to every signature."""

    def process(self, apdu: bytes) -> bytes:
        return word(Status.NOT_ALLOWED) if apdu[1:2] and apdu[1] in INS_SIGN else super().process(apdu)


class HangingCard(PullableCard):
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


class UnknownCard(PullableCard):
    """A card of no known kind."""

    @property
    def atr(self) -> bytes:
        return UNKNOWN_ATR


def with_fault(card: Blockable, fault: Fault | None, report: Report, *, at_once: bool = False) -> VirtualCard:
    """Return `card` with `fault`; `at_once`: one that begins at a login begins with the first command."""
    if fault is None:
        return card
    if fault is Fault.BLOCKED:
        card.block()
        return card
    troubled: dict[Fault, Callable[[], VirtualCard]] = {
        Fault.FORGETFUL: lambda: ForgetfulCard(card),
        Fault.GARBAGE: lambda: NoisyCard(card, 32, at_once=at_once),
        Fault.HANGS: lambda: HangingCard(card, report),
        Fault.MUTE: lambda: MuteCard(card, at_once=at_once),
        Fault.OVERSIZED: lambda: NoisyCard(card, OVERSIZED, at_once=at_once),
        Fault.SLOW: lambda: SlowCard(card),
        Fault.UNKNOWN: lambda: UnknownCard(card),
    }
    return troubled[fault]()
