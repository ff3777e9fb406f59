"""The YubiKey Bio: the finger's counter, the temporary PIN, and what Yubico's commands tell."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.smartcard.variants import variants_for
from sdbox.smartcard.virtual.emulator import CardPlan, make_card
from sdbox.smartcard.virtual.faults import Fault
from sdbox.smartcard.virtual.personalise import Issuer, KeyKind, Project
from sdbox.smartcard.virtual.tlv import parse_tlvs

ISSUER = Issuer.create()
SELECT = bytes.fromhex("00A4040005A00000030800")
COUNTER, FINGER = bytes.fromhex("00200096"), bytes.fromhex("002000960203 0000".replace(" ", ""))
TEMPORARY = bytes.fromhex("00200096020200 00".replace(" ", ""))
SIGN = bytes.fromhex("0087119A267C2482008120" + 32 * "5A" + "00")


class Held:
    """A key out of its reader."""

    def __init__(self, kind: KeyKind = KeyKind.P256, fault: Fault | None = None) -> None:
        self.reports: list[str] = []
        projects = (Project("atlas", kind=kind), Project("boreal", kind=kind))
        plan = CardPlan("yubikey-bio", projects, ISSUER, touch_seconds=0.0, fault=fault)
        self.card, self.sensor = make_card(plan, self.reports.append)
        self.select()

    def ask(self, command: bytes) -> bytes:
        answer = self.card.process(command)
        while answer[-2] == 0x61:
            answer = answer[:-2] + self.card.process(b"\x00\xc0\x00\x00" + answer[-1:])
        return answer

    def select(self) -> None:
        assert self.ask(SELECT)[-2:] == b"\x90\x00"

    def status(self, command: bytes) -> int:
        return int.from_bytes(self.ask(command)[-2:], "big")

    def finger(self, name: str | None) -> int:
        self.sensor.rest(name)
        return self.status(FINGER)


def test_its_atr_is_known() -> None:
    assert [variant.name for variant in variants_for(Held().card.atr)] == ["yubikey-bio"]


def test_a_finger_opens_the_keys_until_the_next_selection() -> None:
    held = Held()
    assert held.status(SIGN) == 0x6982
    assert held.finger("good") == 0x9000
    assert held.status(COUNTER) == held.status(SIGN) == 0x9000
    held.select()
    assert held.status(COUNTER) == 0x63C3
    assert held.status(SIGN) == 0x6982


def test_nobody_touches_and_no_try_is_lost() -> None:
    held = Held()
    assert held.finger(None) == 0x6286
    assert held.status(COUNTER) == 0x63C3


@given(st.lists(st.sampled_from(["good", "wrong", "power"]), max_size=7))
@settings(max_examples=40, deadline=None)
def test_the_counter_follows_the_rules(actions: list[str]) -> None:
    held, tries = Held(), 3
    for action in actions:
        if action != "power" and tries:
            tries = 3 if action == "good" else tries - 1
            held.finger(action)
        elif action != "power":
            assert held.finger(action) == 0x6983
        held.card.power()
        held.select()
        assert held.status(COUNTER) == (0x63C0 | tries if tries else 0x6983)


def test_a_wrong_finger_closes_what_a_right_one_opened() -> None:
    held = Held()
    assert held.finger("good") == 0x9000
    assert held.finger("wrong") == 0x63C2
    assert held.status(SIGN) == 0x6982


def test_a_blocked_one_reads_no_finger() -> None:
    held = Held(fault=Fault.BLOCKED)
    assert held.finger("good") == 0x6983
    assert held.reports == []


def test_a_temporary_pin_is_good_for_one_attempt() -> None:
    held = Held()
    held.sensor.rest("good")
    pin = held.ask(TEMPORARY)[:-2]
    assert len(pin) == 16
    verify = bytes.fromhex("00200096120110") + pin
    assert held.status(verify) == 0x9000
    assert held.status(verify) == 0x6982
    assert held.status(SIGN) == 0x6982
    assert held.status(bytes.fromhex("00200096120110") + bytes(16)) == 0x6982


def test_the_pin_opens_the_keys_too_and_has_its_own_counter() -> None:
    held = Held()
    assert held.status(bytes.fromhex("0020008008") + b"654321\xff\xff") == 0x63C2
    assert held.status(COUNTER) == 0x63C3
    assert held.status(bytes.fromhex("0020008008") + b"123456\xff\xff") == 0x9000
    assert held.status(SIGN) == 0x9000


@pytest.mark.parametrize("body", ["", "03", "0301", "0400", "030000", "0110"])
def test_other_forms_cost_nothing(body: str) -> None:
    held = Held()
    data = bytes.fromhex(body)
    held.sensor.rest("wrong")
    held.ask(bytes.fromhex("00200096") + (bytes([len(data)]) + data if data else b""))
    assert held.status(COUNTER) == 0x63C3


@pytest.mark.parametrize(
    ("kind", "algorithm", "tags"), [(KeyKind.P384, 0x14, {0x86}), (KeyKind.RSA2048, 0x07, {0x81, 0x82})]
)
def test_metadata_tell_the_public_key(kind: KeyKind, algorithm: int, tags: set[int]) -> None:
    told = dict(parse_tlvs(Held(kind).ask(bytes.fromhex("00F7009A00"))[:-2]))
    assert told[0x01] == bytes([algorithm])
    assert set(dict(parse_tlvs(told[0x04]))) == tags


def test_version_serial_and_counters_are_told() -> None:
    held = Held()
    assert held.ask(bytes.fromhex("00FD000000")) == bytes.fromhex("0506019000")
    assert len(held.ask(bytes.fromhex("00F8000000"))) == 6
    held.finger("wrong")
    assert dict(parse_tlvs(held.ask(bytes.fromhex("00F7009600"))[:-2]))[0x06] == b"\x02"
    assert dict(parse_tlvs(held.ask(bytes.fromhex("00F7008000"))[:-2]))[0x06] == b"\x03\x03"
    assert held.status(bytes.fromhex("00F7009500")) == 0x6A88
    assert held.status(bytes.fromhex("00F99A0000")) == 0x6A80
