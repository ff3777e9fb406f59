"""The card side of vpcd (vsmartcard), for pcscd on the host: 16-bit big-endian length, payload.

A connection is an insertion, its end a removal. vpcd must listen (`DEVICENAME /dev/null:PORT`), which it does on every
interface: run it in a network namespace of its own. Its other mode, where it connects to us, aborts pcscd as soon as
there is no card (vsmartcard 3.3: FD_SET of -1).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from sdbox.smartcard.virtual.apdu import VirtualCard

GET_ATR: Final = 4  # one-byte payloads: 0 power off, 1 power on, 2 reset, 4 get ATR
CONNECT_SECONDS: Final = 5.0
JOIN_SECONDS: Final = 5.0


class VpcdWire:
    """A slot for one card, at the vpcd that listens at `host` and `port`."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._insertion: _Insertion | None = None

    def insert(self, card: VirtualCard) -> None:
        """Put a card in; RuntimeError if there is one, OSError if no vpcd listens."""
        if self._insertion is not None:
            raise RuntimeError("there is a card in the reader")
        self._insertion = _Insertion(card, socket.create_connection(self._address, CONNECT_SECONDS))

    def remove(self) -> None:
        """Pull the card; whatever it was doing is over."""
        if self._insertion is not None:
            self._insertion.end()
            self._insertion = None

    def close(self) -> None:
        self.remove()


class _Insertion:
    """From insertion to removal: one connection, one thread."""

    def __init__(self, card: VirtualCard, connection: socket.socket) -> None:
        self._card = card
        self._connection = connection
        connection.settimeout(None)
        card.power()
        self._thread = threading.Thread(target=self._serve, name="vpcd", daemon=True)
        self._thread.start()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._card.pulled()
        self._thread.join(JOIN_SECONDS)
        self._connection.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError), self._connection.makefile("rb") as stream:  # pulled, or pcscd is gone
            while head := stream.read(2):
                # Without this Linux delays its acknowledgement, and each command takes 40 ms.
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                answer = self._respond(stream.read(int.from_bytes(head, "big")))
                if answer is not None:
                    self._connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _respond(self, message: bytes) -> bytes | None:
        if len(message) != 1:
            return self._card.process(message)
        if message[0] == GET_ATR:
            return self._card.atr
        self._card.power()
        return None
