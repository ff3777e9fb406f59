"""Emulated cards with a PIN: counter, what a reset ends, no signature unasked, no command that upsets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.smartcard.variants import variants_for
from sdbox.smartcard.virtual.faults import Fault, with_fault
from sdbox.smartcard.virtual.models import MODELS, Parts
from sdbox.smartcard.virtual.personalise import FilledContainer, Issuer, KeyKind, Project, fill_containers
from sdbox.smartcard.virtual.sensor import Sensor
from sdbox.smartcard.virtual.tlv import tlv

PIN = b"123456"
DIGEST = 32 * "00"


@dataclass(frozen=True, slots=True)
class Way:
    """How a kind of card is used, in commands. `verify` is the head; `pad` fills the PIN to 8 bytes."""

    select: Sequence[str]
    verify: str
    sign: Sequence[str]
    pad: bytes = b""
    tries: int = 3
    blocked: int = 0x6983  # the answer of a blocked card
    verified: int = 0x9000  # what it says of its PIN when that was given
    kind: KeyKind = KeyKind.P256

    def login(self, pin: bytes) -> bytes:
        data = pin.ljust(8, self.pad) if self.pad else pin
        return bytes.fromhex(self.verify) + bytes([len(data)]) + data


WAYS = {
    "gids": Way(
        ["00A4040009A0000003974254465900"],
        "00200080",
        ["002241B606800157840181", f"002A9E9A20{DIGEST}00"],
        verified=0x63C3,
        kind=KeyKind.RSA2048,
    ),
    "ias-ecc": Way(
        ["00A40400064D494F4D435400"],
        "00200001",
        ["002241A406840181800102", f"0088000020{DIGEST}00"],
        kind=KeyKind.RSA2048,
    ),
    "isoapplet": Way(
        ["00A404000CF276A288BCFBA69D34F31001"],
        "00200001",
        ["002241B606800121840101", f"002A9E9A20{DIGEST}00"],
        blocked=0x63C0,
        verified=0x63C3,
    ),
    "myeid": Way(
        ["00A404000CA000000063504B43532D313500"],
        "00200001",
        ["002241B60A80010481024B01840100", f"002A9E9A20{DIGEST}00"],
        pad=b"\xff",
    ),
    "openpgp": Way(["00A4040006D2760001240100"], "00200082", [f"0088000020{DIGEST}00"]),
}


@cache
def containers(kind: KeyKind) -> tuple[FilledContainer, ...]:
    """Two containers; made once, as RSA keys take their time."""
    return fill_containers([Project(project, kind=kind) for project in ("atlas", "boreal")], Issuer.create())


class Held:
    """A card out of its reader."""

    def __init__(self, name: str, kind: KeyKind, fault: Fault | None = None) -> None:
        self.way = WAYS[name]
        self.reports: list[str] = []
        parts = Parts("12345678", containers(kind), PIN, Sensor(self.reports.append), self.reports.append)
        self.card = with_fault(MODELS[name](parts), fault, self.reports.append)
        self.select()

    def ask(self, command: bytes | str) -> int:
        raw = bytes.fromhex(command) if isinstance(command, str) else command
        return int.from_bytes(self.card.process(raw)[-2:], "big")

    def select(self) -> None:
        for command in self.way.select:
            assert self.ask(command) & 0xFF00 in (0x9000, 0x6100)

    def reset(self) -> None:
        self.card.power()
        self.select()

    def login(self, *, right: bool) -> int:
        return self.ask(self.way.login(PIN if right else b"654321"))

    def sign(self) -> int:
        return [self.ask(command) for command in self.way.sign][-1]

    def left(self, tries: int) -> int:
        return 0x63C0 | tries if tries else self.way.blocked

    @property
    def counter(self) -> int:
        return self.ask(self.way.verify)


def hold(name: str, fault: Fault | None = None) -> Held:
    return Held(name, WAYS[name].kind, fault)


@pytest.mark.parametrize("name", WAYS)
@given(actions=st.lists(st.sampled_from(["right", "wrong", "power", "ask"]), max_size=9))
@settings(max_examples=20, deadline=None)
def test_the_counter_follows_the_rules(name: str, actions: list[str]) -> None:
    """Right restores it, wrong takes one, zero is for ever, power and questions change nothing."""
    held = hold(name)
    tries = held.way.tries
    for action in actions:
        if action == "power":
            held.reset()
        elif action in ("right", "wrong"):
            before, tries = tries, (held.way.tries if action == "right" else tries - 1) if tries else 0
            told = held.login(right=action == "right")
            assert told == (0x9000 if before and action == "right" else held.left(tries))
            held.reset()
        assert held.counter == held.left(tries)


@pytest.mark.parametrize("name", WAYS)
def test_signatures_need_a_login_that_a_reset_ends(name: str) -> None:
    held = hold(name)
    assert held.sign() == 0x6982
    assert held.login(right=True) == 0x9000
    assert held.counter == held.way.verified
    assert held.sign() & 0xFF00 in (0x9000, 0x6100)
    held.reset()
    assert held.counter == 0x63C0 | held.way.tries
    assert held.sign() == 0x6982
    assert held.reports.count("sign") == 1


@pytest.mark.parametrize("name", WAYS)
def test_a_blocked_card_stays_blocked(name: str) -> None:
    held = hold(name, Fault.BLOCKED)
    assert held.counter == held.left(0)
    assert held.login(right=True) == held.left(0)
    assert held.reports == []


@pytest.mark.parametrize("name", WAYS)
def test_an_emulated_card_has_the_atr_of_its_variant(name: str) -> None:
    assert name in [variant.name for variant in variants_for(hold(name).card.atr)]


@pytest.mark.parametrize("name", WAYS)
def test_no_more_projects_than_the_card_can_hold(name: str) -> None:
    many = containers(WAYS[name].kind) * 100
    with pytest.raises(ValueError, match="holds"):
        MODELS[name](Parts("12345678", many, PIN, Sensor(print), print))


HEADS = st.tuples(
    st.sampled_from([0x00, 0x10, 0x80, 0x90, 0x0C]),
    st.sampled_from([0xA4, 0xA5, 0xB0, 0xB1, 0x20, 0x22, 0x24, 0x2A, 0x47, 0x58, 0x68, 0x84, 0x86, 0x87, 0x88])
    | st.sampled_from([0xC0, 0xCA, 0xCB, 0xCC, 0xD6, 0xDB, 0x46, 0xE0, 0xE4]),
    st.integers(0, 255),
    st.integers(0, 255),
)
TAGS = st.sampled_from([0x5C, 0x70, 0x7C, 0x7F49, 0x80, 0x81, 0x82, 0x83, 0x84, 0x86, 0xA5, 0xA6, 0xAC])
OBJECTS = st.recursive(st.binary(max_size=4), lambda inner: st.builds(tlv, TAGS, inner), max_leaves=4)
LIKELY = st.builds(
    lambda head, data, length: bytes(head) + (bytes([len(data)]) + data if data else b"") + length,
    HEADS,
    st.binary(max_size=40) | OBJECTS,
    st.sampled_from([b"", b"\x00", b"\x10"]),
)


@pytest.mark.parametrize("name", WAYS)
@given(commands=st.lists(LIKELY, max_size=10))
@settings(max_examples=60, deadline=None)
def test_no_command_upsets_an_open_card(name: str, commands: list[bytes]) -> None:
    """What needs the PIN is reached too; test_smartcard_models.py does the same to every closed card."""
    held = hold(name)
    assert held.login(right=True) == 0x9000
    for command in commands:
        assert len(held.card.process(command)) >= 2
