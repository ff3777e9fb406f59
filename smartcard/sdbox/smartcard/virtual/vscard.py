"""The card side of QEMU's `ccid-card-passthru`: libcacard's vscard messages on the chardev's unix socket.

Header: type, reader, length, each 32 bits big endian (QEMU, docs/ccid.txt and hw/usb/ccid-card-passthru.c).
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from enum import IntEnum
from typing import Final

from sdbox.smartcard.virtual.apdu import MORE_DATA, Status, VirtualCard, word

HEADER: Final = struct.Struct(">III")
MAGIC: Final = b"VSCD"
VERSION: Final = struct.pack(">II", 2, 0)  # protocol 2, no capabilities
NO_READER: Final = 0xFFFFFFFF
READER: Final = 0
MESSAGE_LIMIT: Final = 1 << 17
REPLY_SECONDS: Final = 10.0
USB_PACKET, CCID_HEADER = 64, 10
GET_RESPONSE: Final = 0xC0


class Type(IntEnum):
    """VSCMsgType."""

    INIT = 1
    ERROR = 2
    READER_ADD = 3
    READER_REMOVE = 4
    ATR = 5
    CARD_REMOVE = 6
    APDU = 7
    FLUSH = 8
    FLUSH_COMPLETE = 9


class VscardError(Exception):
    """QEMU refused a message, did not answer in time, or is gone."""


class SplitAnswers:
    """Keeps answers off multiples of a USB packet.

    QEMU's usb-ccid 7.2 sends no zero-length packet after a full last one, and the next command fails: an answer of 54
    bytes is one. Such an answer is cut short by a byte, which the reader then asks for (61xx, ISO 7816-4, 5.3.4).
    """

    def __init__(self, card: VirtualCard) -> None:
        self._card = card
        self._rest = b""

    def process(self, apdu: bytes) -> bytes:
        if self._rest and apdu[1:2] == bytes([GET_RESPONSE]):
            answer, self._rest = self._rest, b""
        else:
            answer, self._rest = self._card.process(apdu), b""
        if (len(answer) + CCID_HEADER) % USB_PACKET or len(answer) <= 2:
            return answer
        kept = len(answer) - 3
        self._rest = answer[kept:]
        left = len(self._rest) - 2
        return answer[:kept] + word(MORE_DATA | left)


class VscardWire:
    """The one slot of QEMU's reader.

    If the connection ends with a card in, the guest hangs in its next command: `close()` removes the card first.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._replies: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._card: VirtualCard | None = None
        self._answers: SplitAnswers | None = None
        self._thread = threading.Thread(target=self._serve, name="vscard", daemon=True)
        self._thread.start()
        self._send(Type.INIT, NO_READER, MAGIC + VERSION)
        self._expect(Type.INIT)
        self._ask(Type.READER_ADD, NO_READER, b"sdbox\x00")

    def insert(self, card: VirtualCard) -> None:
        """Put a card in; RuntimeError if there is one."""
        if self._card is not None:
            raise RuntimeError("there is a card in the reader")
        card.power()
        self._card, self._answers = card, SplitAnswers(card)
        self._ask(Type.ATR, READER, card.atr)

    def remove(self) -> None:
        """Pull the card; whatever it was doing is over."""
        if self._card is None:
            return
        card, self._card, self._answers = self._card, None, None
        self._send(Type.CARD_REMOVE, READER)
        card.pulled()
        self._expect(Type.ERROR)

    def close(self) -> None:
        with contextlib.suppress(OSError, VscardError):
            self.remove()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(REPLY_SECONDS)
        self._socket.close()

    def _ask(self, kind: Type, reader: int, payload: bytes) -> None:
        self._send(kind, reader, payload)
        self._expect(Type.ERROR)

    def _send(self, kind: Type, reader: int, payload: bytes = b"") -> None:
        with self._guard:
            self._socket.sendall(HEADER.pack(kind, reader, len(payload)) + payload)

    def _expect(self, kind: Type) -> None:
        """Wait for QEMU's reply. Its Error message with code 0 means success."""
        try:
            got, payload = self._replies.get(timeout=REPLY_SECONDS)
        except queue.Empty:
            raise VscardError(f"QEMU did not answer in {REPLY_SECONDS:g} s, expected {kind.name}") from None
        if got != kind:
            raise VscardError(f"QEMU sent message type {got}, expected {kind.name}")
        if kind is Type.ERROR and any(payload):
            raise VscardError(f"QEMU refused: code {int.from_bytes(payload, 'big')}")

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as stream:
            while len(head := stream.read(HEADER.size)) == HEADER.size:
                kind, reader, length = HEADER.unpack(head)
                if length > MESSAGE_LIMIT:
                    break
                self._receive(kind, reader, stream.read(length))
        self._replies.put((0, b""))  # wake whoever waits

    def _receive(self, kind: int, reader: int, payload: bytes) -> None:
        if kind == Type.APDU:
            answers = self._answers
            answer = answers.process(payload) if answers else word(Status.NO_INSTRUCTION)
            if answers is self._answers:  # not after a removal in the middle of the command
                self._send(Type.APDU, reader, answer)
        elif kind == Type.FLUSH:
            self._send(Type.FLUSH_COMPLETE, reader)
        elif kind in (Type.INIT, Type.ERROR):
            self._replies.put((kind, payload))
        # ATR (2.x: "send me the ATR again") and power messages ask nothing of us
