"""What the card emulator is told to do: cards in and out, swapped, stalled; its reader unplugged."""

from __future__ import annotations

import threading

import pytest

from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.counter import is_login
from sdbox.smartcard.virtual.cut import CutCard
from sdbox.smartcard.virtual.emulator import Emulator, HeldCard
from sdbox.smartcard.virtual.faults import Fault
from sdbox.smartcard.virtual.plug import Reader
from tests.unit.test_smartcard_virtual import Held


def test_commands_are_obeyed_and_events_reported() -> None:
    held = Held("piv")
    lines = ["insert", "insert", "touch good", "dance", "", "remove", "remove", "insert", "quit", "insert"]
    assert emulated(held, lines)[0] == ["card in", "sensor off", "unknown command", "card out", "card in", "card out"]


def test_a_card_stays_in_a_reader_that_is_unplugged() -> None:
    lines = ["insert", "unplug", "unplug", "plug", "plug", "unplug", "remove", "plug", "unplug", "insert", "plug"]
    reports, moves = emulated(Held("piv"), lines)
    expected = ["card in", "reader out", "reader in", "reader out", "card out", "reader in", "reader out", "card in"]
    assert reports == [*expected, "reader in", "card out"]
    assert "".join(move[0] for move in moves) == "piupiupupiru"


def test_a_swapped_card_is_another_one() -> None:
    first, second = Held("piv"), Held("sc-hsm-bio")
    reports, moves = emulated(first, ["swap", "insert", "swap", "remove", "swap"], second)
    assert reports == ["card in", "card out", "card in", "card out"]
    assert [move.partition(" ")[2] for move in moves if move[0] == "i"] == [
        held.card.atr.hex() for held in (second, first)
    ]


def test_a_stalled_card_answers_so_many_commands_and_then_none_until_it_is_pulled() -> None:
    held = Held("piv")
    card = CutCard(held.card, held.reports.append)
    card.stall(2)
    select = bytes.fromhex("00A404000BA00000030800001000010000")
    assert [card.process(select)[-2:] for _ in range(2)] == 2 * [b"\x90\x00"]
    pulled = threading.Timer(0.05, card.pulled)
    pulled.start()
    assert card.process(select) == b""
    pulled.join()
    assert held.reports == ["stalled"]
    assert card.process(select)[-2:] == b"\x90\x00"


# What OpenSC, ykcs11 and the box send: a question for the counter, or a login.
QUESTIONS = ("00200080", "0020008000", "00200081", "00200085", "00200096", "0020FF96", "0C2000810D97010000")
LOGINS = ("0020008100", "8020008100", "0020008006313233343536", "00200096020300", "8C2000810D97010000")


@pytest.mark.parametrize(("command", "login"), [*((c, False) for c in QUESTIONS), *((c, True) for c in LOGINS)])
def test_a_login_is_told_from_a_question_for_the_counter(command: str, *, login: bool) -> None:
    assert is_login(bytes.fromhex(command)) is login


def test_a_login_is_reported_even_if_nothing_comes_of_it() -> None:
    """Of a blocked card, of one that answers noise, of one that is pulled while it is asked."""
    for fault, spoil in ((Fault.BLOCKED, ""), (Fault.GARBAGE, ""), (None, "stall")):
        held = Held("piv", fault=fault)
        card = HeldCard(held.card, held.sensor, held.reports.append)
        if spoil:
            card.cut.stall(0)
            threading.Timer(0.05, card.card.pulled).start()
        card.card.process(bytes.fromhex("0020008008313233343536FFFF"))
        assert held.reports[0] == "asked"
        assert held.reports.count("asked") == 1


def emulated(held: Held, lines: list[str], *others: Held) -> tuple[list[str], list[str]]:
    """Obey `lines` with these cards; what was reported after `ready`, and what the reader was made to do."""
    moves: list[str] = []

    class Slot:
        def __init__(self) -> None:
            moves.append("plug")

        def insert(self, card: VirtualCard) -> None:
            moves.append(f"insert {card.atr.hex()}")

        def remove(self) -> None:
            moves.append("remove")

        def close(self) -> None:
            moves.append("unplug")

    reports: list[str] = []
    reader = Reader(Slot)
    Emulator(reader, [HeldCard(one.card, one.sensor, reports.append) for one in (held, *others)], reports.append).run(
        lines
    )
    reader.close()
    assert reports[0] == "ready"
    return reports[1:], moves
