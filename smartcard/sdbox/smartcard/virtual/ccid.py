"""A USB CCID reader with one slot: the messages at its bulk and interrupt endpoints (USB CCID 1.1, 6).

It exchanges short and extended APDUs and leaves T=0 and T=1 to itself, so it suits cards that speak one of them only.
While a card works the reader asks its host for more time, and a card that is pulled ends its command at once.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.ccid_descriptors import MESSAGE_LIMIT

HEADER: Final = struct.Struct("<BIBB3s")
PARAMETERS: Final = (bytes.fromhex("1100000a00"), bytes.fromhex("1110004d00fe00"))  # by protocol, CCID 1.1, 6.1.7

NOTIFY_SLOT_CHANGE, PRESENT, CHANGED = 0x50, 1, 2


class Message(IntEnum):
    """bMessageType, to the reader (CCID 1.1, 6.1) and from it (6.2)."""

    SET_PARAMETERS = 0x61
    POWER_ON = 0x62
    POWER_OFF = 0x63
    GET_SLOT_STATUS = 0x65
    SECURE = 0x69
    ESCAPE = 0x6B
    GET_PARAMETERS = 0x6C
    RESET_PARAMETERS = 0x6D
    XFR_BLOCK = 0x6F
    ABORT = 0x72
    SET_RATE = 0x73
    DATA_BLOCK = 0x80
    SLOT_STATUS = 0x81
    PARAMETERS = 0x82
    ESCAPE_ANSWER = 0x83
    RATE = 0x84


ANSWERS: Final[dict[int, Message]] = {
    Message.POWER_ON: Message.DATA_BLOCK,
    Message.XFR_BLOCK: Message.DATA_BLOCK,
    Message.SECURE: Message.DATA_BLOCK,
    Message.GET_PARAMETERS: Message.PARAMETERS,
    Message.SET_PARAMETERS: Message.PARAMETERS,
    Message.RESET_PARAMETERS: Message.PARAMETERS,
    Message.ESCAPE: Message.ESCAPE_ANSWER,
    Message.SET_RATE: Message.RATE,
}


class Icc(IntEnum):
    """bmICCStatus (6.2.6)."""

    ACTIVE = 0
    INACTIVE = 1
    ABSENT = 2


FAILED, MORE_TIME = 0x40, 0x80  # bmCommandStatus


class Trouble(IntEnum):
    """bError of a failed command (6.2.6): a number up to 0x7F is the offset of the field that is wrong."""

    UNSUPPORTED = 0
    BAD_LENGTH = 1
    BAD_SLOT = 5
    BAD_PROTOCOL = 7
    BAD_LEVEL = 8
    SLOT_BUSY = 0xE0
    MUTE = 0xFE


@dataclass(frozen=True, slots=True)
class Request:
    """A message to the reader. `special` is the meaning of its last three header bytes, which depends on `kind`."""

    kind: int
    slot: int
    sequence: int
    special: bytes
    data: bytes


@dataclass(eq=False, slots=True)
class _Exchange:
    """A command that the card works on."""

    request: Request
    card: VirtualCard


class CcidReader:
    """The reader's slot and its messages.

    `send` takes each message for the bulk endpoint, `notify` each for the interrupt endpoint; `work` runs a function in
    another thread, one after the other, because a card may wait for a finger for long.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        notify: Callable[[bytes], None],
        work: Callable[[Callable[[], None]], None],
    ) -> None:
        self._send = send
        self._notify = notify
        self._work = work
        self._guard = threading.RLock()
        self._received = b""
        self._card: VirtualCard | None = None
        self._powered = False
        self._protocol = 0
        self._exchange: _Exchange | None = None

    def insert(self, card: VirtualCard) -> None:
        """Put a card in; RuntimeError if there is one."""
        with self._guard:
            if self._card is not None:
                raise RuntimeError("there is a card in the reader")
            card.power()
            self._card, self._powered = card, False
            self.announce()

    def remove(self) -> None:
        """Pull the card: the command it works on fails now."""
        with self._guard:
            card, self._card, self._powered = self._card, None, False
            exchange, self._exchange = self._exchange, None
            if card is None:
                return
            try:
                if exchange is not None:
                    self._fail(exchange.request, Trouble.MUTE)
                self.announce()
            finally:
                card.pulled()  # even if the host is gone

    def announce(self) -> None:
        """Tell the host whether there is a card now (NotifySlotChange, 6.3.1)."""
        with self._guard:
            self._notify(bytes([NOTIFY_SLOT_CHANGE, CHANGED | (PRESENT if self._card is not None else 0)]))

    def reset(self) -> None:
        """The host reset the device: cards lose their power, messages on their way are forgotten."""
        with self._guard:
            self._received = b""
            self._power_off()

    def ask_more_time(self) -> None:
        """Ask for more time (6.2.1) if the card works: to be called more often than the host's time-out, 3 s."""
        with self._guard:
            if self._exchange is not None:
                self._answer(self._exchange.request, status=MORE_TIME, error=1)

    def receive(self, data: bytes) -> None:
        """Take what came on the bulk endpoint: any part of a message."""
        self._received += data
        while len(self._received) >= HEADER.size:
            kind, length, slot, sequence, special = HEADER.unpack_from(self._received)
            end = HEADER.size + length
            request = Request(kind, slot, sequence, special, self._received[HEADER.size : end])
            if length > MESSAGE_LIMIT - HEADER.size:
                self._received = b""
                self._fail(request, Trouble.BAD_LENGTH)
            elif len(self._received) < end:
                return
            else:
                self._received = self._received[end:]
                with self._guard:
                    self._obey(request)

    def _obey(self, request: Request) -> None:
        kind = request.kind
        if request.slot != 0:
            self._fail(request, Trouble.BAD_SLOT)
        elif kind == Message.GET_SLOT_STATUS:
            self._answer(request)
        elif kind == Message.ABORT:
            self._power_off()
            self._answer(request)
        elif self._exchange is not None:
            self._fail(request, Trouble.SLOT_BUSY)
        elif kind == Message.POWER_OFF:
            self._power_off()
            self._answer(request)
        elif kind == Message.POWER_ON:
            self._power_on(request)
        elif kind == Message.XFR_BLOCK:
            self._transfer(request)
        elif ANSWERS.get(kind) is Message.PARAMETERS:
            self._parameters(request)
        else:
            self._fail(request, Trouble.UNSUPPORTED)

    def _power_on(self, request: Request) -> None:
        if self._card is None:
            self._fail(request, Trouble.MUTE)
            return
        self._card.power()
        self._powered, self._protocol = True, 0
        self._answer(request, self._card.atr)

    def _power_off(self) -> None:
        card, working = self._card, self._exchange is not None
        self._exchange, self._powered = None, False
        if card is not None:
            if working:
                card.pulled()  # ends what it waits for
            card.power()

    def _transfer(self, request: Request) -> None:
        card = self._card
        if card is None or not self._powered:
            self._fail(request, Trouble.MUTE)
        elif request.special[1:] != b"\x00\x00":
            self._fail(request, Trouble.BAD_LEVEL)
        else:
            exchange = self._exchange = _Exchange(request, card)
            self._work(lambda: self._process(exchange))

    def _process(self, exchange: _Exchange) -> None:
        answer = exchange.card.process(exchange.request.data) if exchange is self._exchange else b""
        with self._guard:
            if exchange is self._exchange:  # not after a removal in the middle of the command
                self._exchange = None
                self._answer(exchange.request, answer)

    def _parameters(self, request: Request) -> None:
        """Get, set or reset the protocol's parameters: only the choice of T=0 or T=1 is kept, APDUs need no more."""
        if self._card is None:
            self._fail(request, Trouble.MUTE)
            return
        if request.kind == Message.SET_PARAMETERS:
            if request.special[0] >= len(PARAMETERS):
                self._fail(request, Trouble.BAD_PROTOCOL)
                return
            self._protocol = request.special[0]
        self._answer(request, PARAMETERS[self._protocol], last=self._protocol)

    def _fail(self, request: Request, trouble: Trouble) -> None:
        self._answer(request, status=FAILED, error=trouble)

    def _answer(self, request: Request, data: bytes = b"", *, status: int = 0, error: int = 0, last: int = 0) -> None:
        kind = ANSWERS.get(request.kind, Message.SLOT_STATUS)
        icc = Icc.ABSENT if self._card is None else Icc.ACTIVE if self._powered else Icc.INACTIVE
        tail = bytes([status | icc, error, last])
        self._send(HEADER.pack(kind, len(data), request.slot, request.sequence, tail) + data)
