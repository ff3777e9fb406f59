"""Emulated cards: counters, blocking, faults, malformed commands, the two wires, and one VERIFY per user action."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.smartcard.virtual.apdu import parse_command
from sdbox.smartcard.virtual.emulator import CardPlan, WireKind, make_card, open_wire
from sdbox.smartcard.virtual.faults import Fault
from sdbox.smartcard.virtual.personalise import Issuer, Project
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv
from sdbox.smartcard.virtual.vscard import HEADER, SplitAnswers, Type, VscardError, VscardWire

ISSUER = Issuer.create()
SELECT = {
    "sc-hsm-bio": bytes.fromhex("00A404000BE82B0601040181C31F020100"),
    "piv": bytes.fromhex("00A404000BA00000030800001000010000"),
}
COUNTER = {"sc-hsm-bio": bytes.fromhex("00200081"), "piv": bytes.fromhex("00200080")}
RIGHT_PIN = bytes.fromhex("0020008008313233343536FFFF")
WRONG_PIN = bytes.fromhex("0020008008363534333231FFFF")
FINGER = bytes.fromhex("0020008100")


class Silent:
    """A card that answers what it is told to."""

    atr = b"\x3b\x00"

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.seen: list[bytes] = []

    def power(self) -> None: ...
    def pulled(self) -> None: ...

    def process(self, apdu: bytes) -> bytes:
        self.seen.append(apdu)
        return self.answer


@given(st.lists(st.tuples(st.sampled_from([0x30, 0x7F21, 0x5FC105]), st.binary(max_size=300)), max_size=4))
def test_tlv_round_trip(objects: list[tuple[int, bytes]]) -> None:
    assert list(parse_tlvs(b"".join(tlv(tag, value) for tag, value in objects))) == objects


@given(st.binary(max_size=40))
def test_tlv_parsing_ends_in_objects_or_value_error(data: bytes) -> None:
    try:
        parsed = list(parse_tlvs(data))
    except ValueError:
        return
    assert sum(len(value) for _, value in parsed) <= len(data)


@given(st.binary(max_size=40))
def test_a_command_is_read_or_refused(apdu: bytes) -> None:
    try:
        command = parse_command(apdu)
    except ValueError:
        return
    assert len(command.data) < len(apdu)


class Held:
    """A card with its sensor and what it reported."""

    def __init__(self, variant: str, *, fault: Fault | None = None, seconds: float = 0.05) -> None:
        self.reports: list[str] = []
        plan = CardPlan(variant, (Project("atlas"), Project("boreal")), ISSUER, touch_seconds=seconds, fault=fault)
        self.card, self.sensor = make_card(plan, self.reports.append)
        self.variant = variant
        assert self.ask(SELECT[variant]) == 0x9000

    def ask(self, command: bytes) -> int:
        return int.from_bytes(self.card.process(command)[-2:], "big")

    def try_login(self, *, right: bool) -> int:
        if self.variant == "piv":
            return self.ask(RIGHT_PIN if right else WRONG_PIN)
        self.sensor.rest("good" if right else "wrong")
        return self.ask(FINGER)

    @property
    def counter(self) -> int:
        return self.ask(COUNTER[self.variant])


@pytest.mark.parametrize("variant", ["sc-hsm-bio", "piv"])
@given(commands=st.lists(st.binary(max_size=30), max_size=8))
@settings(max_examples=25, deadline=None)
def test_no_command_upsets_a_card(variant: str, commands: list[bytes]) -> None:
    held = Held(variant, seconds=0.0)
    for command in commands:
        assert len(held.card.process(command)) >= 2


@pytest.mark.parametrize("variant", ["sc-hsm-bio", "piv"])
@given(actions=st.lists(st.sampled_from(["right", "wrong", "power", "ask"]), max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_counter_follows_the_rules(variant: str, actions: list[str]) -> None:
    """Right restores it, wrong takes one, zero is for ever, power and questions change nothing."""
    held, tries = Held(variant), 3
    for action in actions:
        if action == "power":
            held.card.power()
            assert held.ask(SELECT[variant]) == 0x9000
        elif action in ("right", "wrong") and tries:
            tries = 3 if action == "right" else tries - 1
            held.try_login(right=action == "right")
        elif action in ("right", "wrong"):
            assert held.try_login(right=action == "right") == 0x6983
        held.card.power()
        held.ask(SELECT[variant])
        assert held.counter == (0x63C0 | tries if tries else 0x6983)


@pytest.mark.parametrize("variant", ["sc-hsm-bio", "piv"])
def test_a_reset_ends_the_login(variant: str) -> None:
    held = Held(variant)
    assert held.try_login(right=True) == 0x9000
    assert held.counter == 0x9000
    held.card.power()
    held.ask(SELECT[variant])
    assert held.counter == 0x63C3


def test_no_signature_without_a_login() -> None:
    sign = {"sc-hsm-bio": "80680170000020" + 32 * "00" + "0000", "piv": "0087119A267C2482008120" + 32 * "00" + "00"}
    for variant, command in sign.items():
        held = Held(variant)
        assert held.ask(bytes.fromhex(command)) == 0x6982
        assert held.try_login(right=True) == 0x9000
        assert held.ask(bytes.fromhex(command)) & 0xFF00 in (0x9000, 0x6100)


def test_nobody_touches_the_sensor() -> None:
    held = Held("sc-hsm-bio")
    assert held.ask(FINGER) == 0x6286
    assert held.counter == 0x63C3
    assert held.reports == ["sensor wait", "sensor timeout"]


def test_a_touch_counts_only_while_the_sensor_waits() -> None:
    held = Held("sc-hsm-bio")
    assert not held.sensor.touch("good")
    assert held.ask(FINGER) == 0x6286


def test_pulling_the_card_ends_the_wait() -> None:
    held = Held("sc-hsm-bio", seconds=30)
    waiting = threading.Thread(target=held.ask, args=(FINGER,))
    waiting.start()
    while not held.reports:
        waiting.join(0.01)
    held.card.pulled()
    waiting.join(5)
    assert held.reports == ["sensor wait", "sensor timeout"]


def test_a_blocked_card_from_the_start() -> None:
    for variant in ("sc-hsm-bio", "piv"):
        held = Held(variant, fault=Fault.BLOCKED)
        assert held.try_login(right=True) == 0x6983
        assert not held.reports


@pytest.mark.parametrize("address", ["0.0.0.0:7000", "198.51.100.1:7000", "127.0.0.1", "127.0.0.1:x", ""])
def test_vpcd_is_reached_locally_only(address: str) -> None:
    with pytest.raises(ValueError, match="PORT"):
        open_wire(WireKind.VPCD, address)


@given(st.integers(min_value=2, max_value=300))
def test_no_answer_fills_a_usb_packet(size: int) -> None:
    answer = bytes(size - 2) + b"\x90\x00"
    split = SplitAnswers(Silent(answer))
    parts = [split.process(b"\x00\xcb\x3f\xff\x00")]
    while parts[-1][-2] == 0x61:
        parts.append(split.process(b"\x00\xc0\x00\x00" + parts[-1][-1:]))
    assert all((10 + len(part)) % 64 for part in parts if len(part) > 2)
    assert b"".join(part[:-2] for part in parts) + parts[-1][-2:] == answer


class FakeQemu:
    """The chardev's side of the wire, as hw/usb/ccid-card-passthru.c speaks it."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.seen: list[tuple[int, bytes]] = []
        self.refuse = False
        self._answers: list[bytes] = []
        self._got = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._socket, _ = self._listener.accept()
        stream = self._socket.makefile("rb")
        while head := stream.read(HEADER.size):
            kind, _reader, length = HEADER.unpack(head)
            payload = stream.read(length)
            self.seen.append((kind, payload))
            if kind == Type.INIT:
                self.send(Type.INIT, b"VSCD" + struct.pack(">II", 2, 0))
            elif kind in (Type.READER_ADD, Type.ATR, Type.CARD_REMOVE):
                self.send(Type.ERROR, struct.pack(">I", int(self.refuse)))
            elif kind == Type.APDU:
                with self._got:
                    self._answers.append(payload)
                    self._got.notify()

    def send(self, kind: Type, payload: bytes) -> None:
        self._socket.sendall(HEADER.pack(kind, 0, len(payload)) + payload)

    def transmit(self, apdu: bytes) -> bytes:
        self.send(Type.APDU, apdu)
        with self._got:
            assert self._got.wait_for(lambda: self._answers, 5)
            return self._answers.pop()

    def close(self) -> None:
        self._socket.close()
        self._listener.close()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[FakeQemu]:
    fake = FakeQemu(tmp_path / "chardev")
    yield fake
    fake.close()


def test_a_card_in_qemus_reader(qemu: FakeQemu, tmp_path: Path) -> None:
    held = Held("piv")
    wire = VscardWire(str(tmp_path / "chardev"))
    wire.insert(held.card)
    assert qemu.transmit(SELECT["piv"])[-2:] == b"\x90\x00"
    assert qemu.transmit(COUNTER["piv"]) == b"\x63\xc3"
    wire.remove()
    wire.insert(held.card)
    assert qemu.transmit(COUNTER["piv"]) == b"\x6d\x00", "the new insertion begins with a reset card"
    wire.close()
    kinds = [kind for kind, _ in qemu.seen if kind != Type.APDU]
    inserted, removed = Type.ATR, Type.CARD_REMOVE
    assert kinds == [Type.INIT, Type.READER_ADD, inserted, removed, inserted, removed]
    assert qemu.seen[2] == (Type.ATR, held.card.atr)


def test_qemu_says_no(qemu: FakeQemu, tmp_path: Path) -> None:
    wire = VscardWire(str(tmp_path / "chardev"))
    qemu.refuse = True
    with pytest.raises(VscardError, match="refused"):
        wire.insert(Held("piv").card)
    wire.close()


def test_removal_in_the_middle_of_a_command(qemu: FakeQemu, tmp_path: Path) -> None:
    held = Held("sc-hsm-bio", seconds=30)
    wire = VscardWire(str(tmp_path / "chardev"))
    wire.insert(held.card)
    assert qemu.transmit(SELECT["sc-hsm-bio"])[-2:] == b"\x90\x00"
    qemu.send(Type.APDU, FINGER)
    waiting = threading.Event()
    while "sensor wait" not in held.reports:
        waiting.wait(0.01)
    wire.remove()
    assert [kind for kind, _ in qemu.seen].count(Type.APDU) == 1, "a card that is gone answers nothing"
    wire.close()
