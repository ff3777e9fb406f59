"""The emulated SmartCard-HSM is written: only after a login, and cut off at any command."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.cut import CutCard
from sdbox.smartcard.virtual.emulator import CardPlan, make_card
from sdbox.smartcard.virtual.personalise import Issuer, Project

ISSUER = Issuer.create()
WRITE_CE05 = bytes.fromhex("00D7CE05 07 54020000 5301AA".replace(" ", ""))
READ = bytes.fromhex("00B10000 04 54020000 00".replace(" ", ""))
DELETE_CE05 = bytes.fromhex("00E4020002CE05")
SELECT_CE05 = bytes.fromhex("00A4000C02CE05")
COMMANDS = st.tuples(st.sampled_from([0x46, 0xD7, 0xE4]), st.integers(0, 255), st.binary(max_size=40))


def card(*, logged_in: bool) -> VirtualCard:
    made, sensor = make_card(CardPlan("sc-hsm-bio", (Project("atlas"),), ISSUER, touch_seconds=0.01), lambda _: None)
    made.process(bytes.fromhex("00A404000BE82B0601040181C31F020100"))
    if logged_in:
        sensor.rest("good")
        assert made.process(bytes.fromhex("0020008100")) == b"\x90\x00"
    return made


@pytest.mark.parametrize("command", [WRITE_CE05, DELETE_CE05, bytes.fromhex("00460500010000")])
def test_nothing_is_written_before_the_login(command: bytes) -> None:
    made = card(logged_in=False)
    assert made.process(command) == b"\x69\x82"
    assert made.process(SELECT_CE05) == b"\x6a\x82"


def test_a_file_is_made_read_and_deleted() -> None:
    made = card(logged_in=True)
    assert made.process(WRITE_CE05) == b"\x90\x00"
    assert made.process(SELECT_CE05) == b"\x90\x00"
    assert made.process(READ) == b"\xaa\x62\x82"
    assert made.process(DELETE_CE05) == b"\x90\x00"
    assert made.process(SELECT_CE05) == b"\x6a\x82"
    assert made.process(DELETE_CE05) == b"\x6a\x82"


@given(st.lists(COMMANDS, max_size=6))
@settings(max_examples=40, deadline=None)
def test_no_writing_command_upsets_the_card(commands: list[tuple[int, int, bytes]]) -> None:
    made = card(logged_in=True)
    for ins, number, data in commands:
        assert len(made.process(bytes([0, ins, number, 0, len(data)]) + data)) == 2


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_cut_card_obeys_so_many_and_is_mute(writes: int) -> None:
    reports: list[str] = []
    inner = card(logged_in=True)
    cut = CutCard(inner, reports.append)
    cut.cut(writes)
    answers = [cut.process(WRITE_CE05) for _ in range(writes - 1)]
    assert answers == [b"\x90\x00"] * (writes - 1)
    lost: list[bytes] = []
    command = DELETE_CE05 if writes == 2 else WRITE_CE05
    waiting = threading.Thread(target=lambda: lost.append(cut.process(command)))
    waiting.start()
    while not reports:
        waiting.join(0.01)
    assert waiting.is_alive()
    assert reports == ["cut"]
    cut.pulled()
    waiting.join(5)
    assert lost == [b""]
    assert inner.process(SELECT_CE05) == (b"\x90\x00" if writes == 1 else b"\x6a\x82")
