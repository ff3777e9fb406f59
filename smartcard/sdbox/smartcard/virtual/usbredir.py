"""The device side of QEMU's `usb-redir`: a USB device on a chardev's unix socket.

Packets are a header (type, length, id), a header by type and data, all little endian (SPICE project, usbredir,
docs/usb-redirection-protocol.md, version 0.7). The side with the device is the protocol's "usb-host", QEMU its
"usb-guest". The capabilities that change the packets' layout are the same at both ends here: QEMU asks for them.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import BinaryIO, Final

from sdbox.smartcard.virtual import ccid_descriptors as usb
from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.ccid import CcidReader

HELLO_HEADER: Final = struct.Struct("<III")  # ids have 64 bits after the hello
HEADER: Final = struct.Struct("<IIQ")
VERSION: Final = b"sdbox card reader".ljust(64, b"\x00")
# Device version, endpoint packet sizes, 64-bit ids, 32-bit bulk lengths: QEMU's xHCI refuses a device without them.
CAPABILITIES: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6
CONTROL: Final = struct.Struct("<BBBBHHH")  # endpoint, request, request type, status, value, index, length
BULK: Final = struct.Struct("<BBHIH")  # endpoint, status, length, stream, length's upper half
INTERRUPT: Final = struct.Struct("<BBH")
FULL_SPEED: Final = 1
ENDPOINTS: Final = 32  # 0 to 15 out, then in
TYPE_CONTROL, TYPE_BULK, TYPE_INTERRUPT, TYPE_NONE = 0, 2, 3, 255
PACKET_LIMIT: Final = 1 << 20
HELLO_SECONDS: Final = 10.0
EXTENSION_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 5.0


class Type(IntEnum):
    """Packets that are used here."""

    HELLO = 0
    DEVICE_CONNECT = 1
    DEVICE_DISCONNECT = 2
    RESET = 3
    INTERFACE_INFO = 4
    EP_INFO = 5
    SET_CONFIGURATION = 6
    GET_CONFIGURATION = 7
    CONFIGURATION_STATUS = 8
    SET_ALT_SETTING = 9
    GET_ALT_SETTING = 10
    ALT_SETTING_STATUS = 11
    START_INTERRUPT = 15
    STOP_INTERRUPT = 16
    INTERRUPT_STATUS = 17
    CANCEL_DATA = 21
    FILTER_REJECT = 22
    CONTROL = 100
    BULK = 101
    INTERRUPT = 103


class Result(IntEnum):
    """How a transfer ended."""

    SUCCESS = 0
    CANCELLED = 1
    STALL = 4


class UsbRedirError(Exception):
    """QEMU speaks another protocol, refused the device, or is gone."""


def connect_packet() -> bytes:
    """Return what device it is; its class is that of its interface."""
    return struct.pack("<BBBBHHH", FULL_SPEED, 0, 0, 0, usb.VENDOR, usb.PRODUCT, usb.DEVICE_VERSION)


def interface_packet() -> bytes:
    """Return the list of interfaces: one."""
    return struct.pack("<I", 1) + b"".join(bytes([first]).ljust(32, b"\x00") for first in (0, usb.CCID_CLASS, 0, 0))


def endpoint_packet() -> bytes:
    """Return the list of endpoints."""
    kinds, intervals, sizes = [TYPE_NONE] * ENDPOINTS, [0] * ENDPOINTS, [0] * ENDPOINTS
    for address, kind, size, interval in (
        (0x00, TYPE_CONTROL, usb.PACKET, 0),
        (0x80, TYPE_CONTROL, usb.PACKET, 0),
        (usb.BULK_OUT, TYPE_BULK, usb.PACKET, 0),
        (usb.BULK_IN, TYPE_BULK, usb.PACKET, 0),
        (usb.INTERRUPT_IN, TYPE_INTERRUPT, usb.NOTICE_PACKET, usb.NOTICE_MILLISECONDS),
    ):
        place = (address & 0x80) >> 3 | address & 0x0F
        kinds[place], sizes[place], intervals[place] = kind, size, interval
    return bytes(kinds) + bytes(intervals) + bytes(ENDPOINTS) + struct.pack(f"<{ENDPOINTS}H", *sizes)


class BulkIn:
    """Messages of the device meet the host's transfers: each fills one or more of them, and a short one ends it."""

    def __init__(self, complete: Callable[[int, Result, bytes], None]) -> None:
        self._complete = complete
        self._messages: deque[bytes] = deque()
        self._transfers: deque[tuple[int, int]] = deque()  # id, most bytes
        self._guard = threading.Lock()

    def put(self, message: bytes) -> None:
        """Send a message."""
        with self._guard:
            self._messages.append(message)
            self._match()

    def ask(self, transfer: int, most: int) -> None:
        """The host waits for up to `most` bytes."""
        with self._guard:
            self._transfers.append((transfer, most))
            self._match()

    def cancel(self, transfer: int) -> None:
        """The host waits no longer. A transfer that has ended already is nothing to answer to."""
        with self._guard:
            for waiting in [waiting for waiting in self._transfers if waiting[0] == transfer]:
                self._transfers.remove(waiting)
                self._complete(transfer, Result.CANCELLED, b"")

    def clear(self) -> None:
        """Forget messages that nobody has fetched."""
        with self._guard:
            self._messages.clear()

    def _match(self) -> None:
        while self._messages and self._transfers:
            message, (transfer, most) = self._messages.popleft(), self._transfers.popleft()
            if len(message) > most or (len(message) == most and most % usb.PACKET == 0):
                self._messages.appendleft(message[most:])  # empty: the zero-length packet after a full last one
            self._complete(transfer, Result.SUCCESS, message[:most])


class UsbWire:
    """The emulated reader, plugged into QEMU from the constructor to `close`. OSError, UsbRedirError if it can't be."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._guard = threading.Lock()
        self._end = threading.Event()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listening = False  # to the interrupt endpoint
        self._notices = 0
        self._bulk = BulkIn(self._complete_bulk)
        self._reader = CcidReader(self._bulk.put, self._notify, self._jobs.put)
        try:
            self._socket.connect(path)
            self._plug_in()
        except BaseException:
            self._socket.close()
            raise
        self._threads = [
            threading.Thread(target=target, name=f"usb {target.__name__}", daemon=True)
            for target in (self._serve, self._work, self._extend)
        ]
        for thread in self._threads:
            thread.start()

    def insert(self, card: VirtualCard) -> None:
        """Put a card in; RuntimeError if there is one, UsbRedirError if the machine is gone."""
        if self._end.is_set():
            raise UsbRedirError("QEMU is gone or has refused the reader")
        self._reader.insert(card)

    def remove(self) -> None:
        """Pull the card; whatever it was doing is over."""
        self._reader.remove()

    def close(self) -> None:
        """Unplug the reader: nobody is told of the card in it any more."""
        self._listening = False
        with contextlib.suppress(OSError):
            self._reader.remove()
        with contextlib.suppress(OSError):
            self._send(Type.DEVICE_DISCONNECT)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._end.set()
        self._jobs.put(None)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._stream.close()
        self._socket.close()

    def _plug_in(self) -> None:
        """Exchange hellos: ours second, since the ids after it have the size that both agree to."""
        self._socket.settimeout(HELLO_SECONDS)
        self._stream: BinaryIO = self._socket.makefile("rb")
        try:
            kind, length, _ = HELLO_HEADER.unpack(self._read(HELLO_HEADER.size))
            hello = self._read(length) if length <= PACKET_LIMIT else b""
        except TimeoutError:
            raise UsbRedirError(
                f"QEMU said nothing in {HELLO_SECONDS:g} s; is the machine still being loaded?"
            ) from None
        offered = int.from_bytes(hello[len(VERSION) : len(VERSION) + 4], "little")
        if kind != Type.HELLO or CAPABILITIES & ~offered:
            raise UsbRedirError(f"no usbredir peer: packet {kind}, capabilities {offered:#x}")
        self._socket.settimeout(None)
        ours = VERSION + struct.pack("<I", CAPABILITIES)
        self._socket.sendall(HELLO_HEADER.pack(Type.HELLO, len(ours), 0) + ours)
        self._describe()
        self._send(Type.DEVICE_CONNECT, connect_packet())

    def _describe(self) -> None:
        self._send(Type.INTERFACE_INFO, interface_packet())
        self._send(Type.EP_INFO, endpoint_packet())

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise UsbRedirError("QEMU closed the connection")
        return data

    def _send(self, kind: Type, payload: bytes = b"", packet_id: int = 0) -> None:
        with self._guard:
            self._socket.sendall(HEADER.pack(kind, len(payload), packet_id) + payload)

    def _serve(self) -> None:
        with contextlib.suppress(OSError, UsbRedirError, struct.error):  # unplugged, or QEMU is gone
            while not self._end.is_set():
                kind, length, packet_id = HEADER.unpack(self._read(HEADER.size))
                if length > PACKET_LIMIT or kind == Type.FILTER_REJECT:
                    break
                self._receive(kind, packet_id, self._read(length))
        self._end.set()
        with contextlib.suppress(OSError):
            self._reader.remove()  # a card that waits for a finger would go on waiting

    def _work(self) -> None:
        with contextlib.suppress(OSError):
            while (job := self._jobs.get()) is not None:
                job()

    def _extend(self) -> None:
        with contextlib.suppress(OSError):
            while not self._end.wait(EXTENSION_SECONDS):
                self._reader.ask_more_time()

    def _receive(self, kind: int, packet_id: int, payload: bytes) -> None:
        if kind == Type.BULK:
            self._bulk_packet(packet_id, payload)
        elif kind == Type.CONTROL:
            self._control_packet(packet_id, payload)
        elif kind == Type.CANCEL_DATA:
            self._bulk.cancel(packet_id)
        elif kind == Type.RESET:
            self._reader.reset()
            self._bulk.clear()
        elif kind in (Type.SET_CONFIGURATION, Type.GET_CONFIGURATION):
            if kind == Type.SET_CONFIGURATION:
                self._describe()
            self._send(Type.CONFIGURATION_STATUS, bytes([Result.SUCCESS, *(payload[:1] or b"\x01")]), packet_id)
        elif kind in (Type.SET_ALT_SETTING, Type.GET_ALT_SETTING):
            self._send(Type.ALT_SETTING_STATUS, bytes([Result.SUCCESS, *payload[:1], 0]), packet_id)
        elif kind in (Type.START_INTERRUPT, Type.STOP_INTERRUPT):
            self._listening = kind == Type.START_INTERRUPT
            self._send(Type.INTERRUPT_STATUS, bytes([Result.SUCCESS, *payload[:1]]), packet_id)
            if self._listening:
                self._reader.announce()  # what happened before is not known to the host

    def _control_packet(self, packet_id: int, payload: bytes) -> None:
        endpoint, request, kind, _, value, index, length = CONTROL.unpack_from(payload)
        answer = usb.control(kind, request, value)
        data = (answer or b"")[:length]
        result = Result.STALL if answer is None else Result.SUCCESS
        moved = len(data) if kind & 0x80 or answer is None else length
        self._send(Type.CONTROL, CONTROL.pack(endpoint, request, kind, result, value, index, moved) + data, packet_id)

    def _bulk_packet(self, packet_id: int, payload: bytes) -> None:
        endpoint, _, low, stream, high = BULK.unpack_from(payload)
        if endpoint == usb.BULK_IN:
            self._bulk.ask(packet_id, high << 16 | low)
        elif endpoint == usb.BULK_OUT:
            self._send(Type.BULK, BULK.pack(endpoint, Result.SUCCESS, low, stream, high), packet_id)
            self._reader.receive(payload[BULK.size :])
        else:
            self._send(Type.BULK, BULK.pack(endpoint, Result.STALL, 0, stream, 0), packet_id)

    def _complete_bulk(self, transfer: int, result: Result, data: bytes) -> None:
        head = BULK.pack(usb.BULK_IN, result, len(data) & 0xFFFF, 0, len(data) >> 16)
        self._send(Type.BULK, head + data, transfer)

    def _notify(self, notice: bytes) -> None:
        if self._listening:
            self._notices += 1
            self._send(
                Type.INTERRUPT, INTERRUPT.pack(usb.INTERRUPT_IN, Result.SUCCESS, len(notice)) + notice, self._notices
            )
