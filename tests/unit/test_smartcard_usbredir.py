"""The emulated reader's plug, at the wire: this test is the side of the protocol that QEMU is."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbox.smartcard.virtual.ccid_descriptors import device_descriptor
from sdbox.smartcard.virtual.emulator import WireKind, open_wire
from sdbox.smartcard.virtual.usbredir import BulkIn, Result, Type, UsbRedirError, UsbWire

CAPABILITIES = 0xF6  # of QEMU 10
IN, OUT, NOTICES = 0x82, 0x01, 0x83
POWER_ON = b"\x62" + bytes(9)
TRANSFER = bytes.fromhex("6f0500000000010000000020008100")
SECONDS = 5.0


class Waiting:
    """A card that waits for its finger until it is pulled."""

    atr = b"\x3b\x80\x01"

    def __init__(self) -> None:
        self.gone = threading.Event()

    def power(self) -> None: ...

    def pulled(self) -> None:
        self.gone.set()

    def process(self, _: bytes) -> bytes:
        self.gone.wait(SECONDS)
        return b"\x62\x86"


class Guest:
    """QEMU's side of the connection."""

    def __init__(self, listener: socket.socket, *, capabilities: int = CAPABILITIES) -> None:
        self.connection, _ = listener.accept()
        self.connection.settimeout(SECONDS)
        self.stream = self.connection.makefile("rb")
        hello = b"a guest".ljust(64, b"\x00") + struct.pack("<I", capabilities)
        self.connection.sendall(struct.pack("<III", 0, len(hello), 0) + hello)

    def hello(self) -> int:
        kind, length, _ = struct.unpack("<III", self.stream.read(12))
        payload = self.stream.read(length)
        assert (kind, length) == (0, 68)
        return int.from_bytes(payload[64:], "little")

    def next(self) -> tuple[int, int, bytes]:
        kind, length, number = struct.unpack("<IIQ", self.stream.read(16))
        return kind, number, self.stream.read(length)

    def send(self, kind: int, payload: bytes = b"", number: int = 0) -> None:
        self.connection.sendall(struct.pack("<IIQ", kind, len(payload), number) + payload)

    def write(self, message: bytes, number: int = 1) -> None:
        """Send a message to the bulk endpoint."""
        self.send(Type.BULK, struct.pack("<BBHIH", OUT, 0, len(message), 0, 0) + message, number)
        assert self.next() == (Type.BULK, number, struct.pack("<BBHIH", OUT, 0, len(message), 0, 0))

    def read(self, number: int, most: int = 65556) -> None:
        """Begin to wait at the bulk endpoint."""
        self.send(Type.BULK, struct.pack("<BBHIH", IN, 0, most & 0xFFFF, 0, most >> 16), number)

    def bulk(self) -> tuple[int, int, bytes]:
        """Return id, status and data of the bulk transfer that ends next."""
        kind, number, payload = self.next()
        endpoint, status, low, _, high = struct.unpack_from("<BBHIH", payload)
        assert (kind, endpoint, high << 16 | low) == (Type.BULK, IN, len(payload) - 10)
        return number, status, payload[10:]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "card.sock"))
        listening.listen()
        listening.settimeout(SECONDS)
        yield listening


def plug_in(listener: socket.socket, **options: int) -> tuple[UsbWire, Guest]:
    found: list[Guest] = []
    thread = threading.Thread(target=lambda: found.append(Guest(listener, **options)))
    thread.start()
    try:
        wire = open_wire(WireKind.USB, listener.getsockname())
    finally:
        thread.join()
    assert isinstance(wire, UsbWire)
    return wire, found[0]


@pytest.fixture
def plugged(listener: socket.socket) -> Iterator[tuple[UsbWire, Guest]]:
    """A reader that is plugged in and enumerated."""
    wire, guest = plug_in(listener)
    assert guest.hello() & ~CAPABILITIES == 0
    assert [guest.next()[0] for _ in range(3)] == [Type.INTERFACE_INFO, Type.EP_INFO, Type.DEVICE_CONNECT]
    yield wire, guest
    wire.close()
    guest.connection.close()


def test_a_reader_says_what_it_is_before_it_is_connected(listener: socket.socket) -> None:
    wire, guest = plug_in(listener)
    guest.hello()
    interfaces, endpoints, device = (guest.next()[2] for _ in range(3))
    assert interfaces[:5] == b"\x01\x00\x00\x00\x00"
    assert interfaces[36] == 0x0B, "class smart card"
    assert len(interfaces) == 132
    assert len(endpoints) == 160
    assert [(place, kind) for place, kind in enumerate(endpoints[:32]) if kind != 255] == [
        (0, 0), (1, 2), (16, 0), (18, 2), (19, 3),
    ]  # fmt: skip
    assert device == struct.pack("<BBBBHHH", 1, 0, 0, 0, 0x04E6, 0x5810, 0x0100)
    wire.close()
    assert guest.next()[0] == Type.DEVICE_DISCONNECT
    assert guest.stream.read() == b""
    guest.connection.close()


def test_a_peer_without_what_xhci_needs_is_refused(listener: socket.socket) -> None:
    with pytest.raises(UsbRedirError, match="no usbredir peer"):
        plug_in(listener, capabilities=0)


def test_enumeration(plugged: tuple[UsbWire, Guest]) -> None:
    _, guest = plugged
    guest.send(Type.CONTROL, struct.pack("<BBBBHHH", 0x80, 6, 0x80, 0, 0x0100, 0, 64), 4)
    head = struct.pack("<BBBBHHH", 0x80, 6, 0x80, 0, 0x0100, 0, 18)
    assert guest.next() == (Type.CONTROL, 4, head + device_descriptor())
    guest.send(Type.CONTROL, struct.pack("<BBBBHHH", 0x80, 6, 0x80, 0, 0x0600, 0, 10), 5)
    assert guest.next()[2][3] == Result.STALL
    guest.send(Type.SET_CONFIGURATION, b"\x01", 6)
    assert [guest.next()[0] for _ in range(2)] == [Type.INTERFACE_INFO, Type.EP_INFO]
    assert guest.next() == (Type.CONFIGURATION_STATUS, 6, b"\x00\x01")
    guest.send(Type.SET_ALT_SETTING, b"\x00\x00", 7)
    assert guest.next() == (Type.ALT_SETTING_STATUS, 7, b"\x00\x00\x00")


def test_slot_changes_are_told_to_who_listens(plugged: tuple[UsbWire, Guest]) -> None:
    wire, guest = plugged
    wire.insert(Waiting())
    guest.send(Type.START_INTERRUPT, bytes([NOTICES]))
    assert guest.next() == (Type.INTERRUPT_STATUS, 0, bytes([0, NOTICES]))
    assert guest.next()[2] == bytes([NOTICES, 0, 2, 0]) + b"\x50\x03", "what happened before"
    wire.remove()
    assert guest.next()[2] == bytes([NOTICES, 0, 2, 0]) + b"\x50\x02"
    guest.send(Type.STOP_INTERRUPT, bytes([NOTICES]))
    assert guest.next()[0] == Type.INTERRUPT_STATUS
    wire.insert(Waiting())
    guest.read(9)
    guest.write(b"\x65" + bytes(9))
    assert guest.bulk()[2][0] == 0x81, "nothing came in between"


def begin_command(wire: UsbWire, guest: Guest) -> None:
    wire.insert(Waiting())
    guest.write(POWER_ON)
    guest.read(10)
    assert guest.bulk()[2][10:] == Waiting.atr
    guest.read(11)
    guest.write(TRANSFER)


def test_a_pulled_card_ends_its_command_at_once(plugged: tuple[UsbWire, Guest]) -> None:
    wire, guest = plugged
    begin_command(wire, guest)
    started = time.monotonic()
    wire.remove()
    number, status, message = guest.bulk()
    assert time.monotonic() - started < 0.5
    assert (number, status, message[:1], message[7:9]) == (11, 0, b"\x80", b"\x42\xfe")


def test_a_card_that_waits_is_given_time(plugged: tuple[UsbWire, Guest]) -> None:
    wire, guest = plugged
    begin_command(wire, guest)
    assert guest.bulk()[2][7:9] == b"\x80\x01"


def test_a_cancelled_transfer_is_answered_as_such(plugged: tuple[UsbWire, Guest]) -> None:
    _, guest = plugged
    guest.read(20)
    guest.send(Type.CANCEL_DATA, b"", 20)
    assert guest.bulk() == (20, Result.CANCELLED, b"")
    guest.send(Type.CANCEL_DATA, b"", 20)
    guest.read(21)
    guest.write(b"\x65" + bytes(9))
    assert guest.bulk()[0] == 21


def test_a_card_that_waits_is_out_when_the_machine_ends(plugged: tuple[UsbWire, Guest]) -> None:
    wire, guest = plugged
    wire.insert(card := Waiting())
    guest.connection.shutdown(socket.SHUT_RDWR)
    assert card.gone.wait(SECONDS)
    with pytest.raises(UsbRedirError, match="gone"):
        wire.insert(Waiting())


@given(st.lists(st.integers(1, 200), min_size=1), st.sampled_from([64, 128, 4096]))
def test_a_short_transfer_ends_a_message_and_nothing_else_does(sizes: list[int], most: int) -> None:
    """As on the bus (USB 2.0, 5.8.3): after a full last packet comes an empty one."""
    ended: list[bytes] = []
    bulk = BulkIn(lambda _number, _result, data: ended.append(data))
    for size in sizes:
        bulk.put(bytes(size))
        transfers = size // most + 1
        for number in range(transfers):
            bulk.ask(number, most)
        assert [len(data) for data in ended] == [most] * (transfers - 1) + [size % most]
        ended.clear()
