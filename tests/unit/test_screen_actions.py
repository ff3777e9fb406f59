"""What each key does, and how a PIN is kept and handed over."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from sdbox.agent.screen import actions as act
from sdbox.agent.screen.actions import action_of
from sdbox.agent.screen.keys import Key, key_of
from sdbox.agent.screen.model import AgentProperties, Local, Project
from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.pin import MAXIMUM, MINIMUM, PinBuffer
from sdbox.protocol.reasons import Reason

CLOSED = Project("cassini", "Cassini", "Cassini", Reason.PROJECT_NO_BUBBLE)
PROJECTS = (Project("atlas", "Atlas", "Atlas"), CLOSED, Project("boreal", "Boréal", "Boreal"))
PICK = AgentProperties(ScreenState.PICK, projects=PROJECTS)
PICKER = AgentProperties(ScreenState.PICKER, projects=PROJECTS, current="atlas")
PIN = AgentProperties(ScreenState.PIN)
LOCAL = Local()


@pytest.mark.parametrize("state", ScreenState)
def test_the_language_can_be_switched_everywhere(state: ScreenState) -> None:
    assert action_of(AgentProperties(state), LOCAL, Key.LANGUAGE) == act.SwitchLanguage()


def test_a_number_picks_a_project_that_opens_and_no_other() -> None:
    assert action_of(PICK, LOCAL, Key.ONE) == act.Pick("atlas")
    assert action_of(PICK, LOCAL, Key.TWO) is None
    assert action_of(PICK, LOCAL, Key.THREE) == act.Pick("boreal")
    assert action_of(PICK, LOCAL, Key.FOUR) is None
    assert action_of(PICK, LOCAL, Key.ZERO) is None


def test_a_tenth_project_has_no_number() -> None:
    many = tuple(Project(f"p{index}", "", "") for index in range(12))
    picked = {action_of(AgentProperties(ScreenState.PICK, projects=many), LOCAL, Key(digit)) for digit in "0123456789"}
    assert picked == {None, *(act.Pick(f"p{index}") for index in range(9))}


def test_arrows_reach_every_row_and_stop_at_the_ends() -> None:
    assert action_of(PICK, LOCAL, Key.DOWN) == act.Select("cassini#1")
    assert action_of(PICK, Local(selected="cassini#1"), Key.DOWN) == act.Select("boreal")
    assert action_of(PICK, Local(selected="boreal"), Key.DOWN) == act.Select("boreal")
    assert action_of(PICK, Local(selected="cassini#1"), Key.UP) == act.Select("atlas")
    assert action_of(PICK, LOCAL, Key.UP) == act.Select("atlas")


def test_what_does_not_open_is_not_picked_even_if_it_is_selected() -> None:
    assert action_of(PICK, Local(selected="cassini#1"), Key.ENTER) is None
    twins = AgentProperties(ScreenState.PICK, projects=(PROJECTS[0], replace(CLOSED, name="atlas")))
    assert action_of(twins, Local(selected="atlas#1"), Key.ENTER) is None
    assert action_of(twins, LOCAL, Key.ENTER) == act.Pick("atlas")


def test_enter_picks_the_selected_project() -> None:
    assert action_of(PICK, LOCAL, Key.ENTER) == act.Pick("atlas")
    assert action_of(PICKER, LOCAL, Key.ENTER) == act.Pick("boreal")


def test_a_list_without_an_open_project_is_read_and_nothing_else() -> None:
    closed = AgentProperties(ScreenState.PICK, projects=(CLOSED,))
    taken = {action_of(closed, LOCAL, key) for key in Key if key is not Key.LANGUAGE}
    assert taken == {None, act.Select("cassini#0")}


@pytest.mark.parametrize("digits", range(MINIMUM))
def test_a_pin_too_short_to_be_one_is_not_sent(digits: int) -> None:
    assert action_of(PIN, Local(digits=digits), Key.ENTER) is None


def test_the_pins_keys() -> None:
    assert action_of(PIN, Local(digits=MINIMUM), Key.ENTER) == act.SubmitPin()
    assert action_of(PIN, LOCAL, Key.SEVEN) == act.TypeDigit("7")
    assert action_of(PIN, LOCAL, Key.ERASE) == act.EraseDigit()
    assert action_of(PIN, LOCAL, Key.ESCAPE) == act.Cancel()
    assert action_of(PIN, LOCAL, Key.UP) is None


def test_escape_leaves_what_can_be_left() -> None:
    leaving = {state for state in ScreenState if action_of(AgentProperties(state), LOCAL, Key.ESCAPE) == act.Cancel()}
    assert leaving == {ScreenState.PIN, ScreenState.LAST_TRY, ScreenState.PICKER, ScreenState.CONNECTING}


def test_the_last_try_is_never_a_matter_of_one_key() -> None:
    last = AgentProperties(ScreenState.LAST_TRY, Reason.CARD_LAST_TRY)
    assert act.Confirm() not in {action_of(last, LOCAL, key) for key in Key}
    assert action_of(last, LOCAL, Key.ENTER) == act.Cancel()
    choice = action_of(last, LOCAL, Key.DOWN)
    assert isinstance(choice, act.Select)
    assert action_of(last, Local(selected=choice.row), Key.ENTER) == act.Confirm()
    confirming = {(state, key) for state in ScreenState for key in Key if _confirms(state, key, choice.row)}
    assert confirming == {(ScreenState.LAST_TRY, Key.ENTER)}


def _confirms(state: ScreenState, key: Key, selected: str) -> bool:
    return action_of(AgentProperties(state, projects=PROJECTS), Local(selected=selected), key) == act.Confirm()


def test_only_enter_acknowledges_and_only_a_refusal_or_a_card_that_stayed_in() -> None:
    said = {(state, key) for state in ScreenState for key in Key if _acknowledges(state, key)}
    assert said == {(ScreenState.REFUSED, Key.ENTER), (ScreenState.INSERT_CARD, Key.ENTER)}


def _acknowledges(state: ScreenState, key: Key) -> bool:
    return action_of(AgentProperties(state), LOCAL, key) == act.Acknowledge()


@pytest.mark.parametrize(
    ("name", "code", "key"),
    [
        ("1", 10, Key.ONE),
        ("ampersand", 10, Key.ONE),  # AZERTY, top row without Shift
        ("agrave", 19, Key.ZERO),
        ("KP_End", 87, Key.ONE),  # keypad without Num Lock
        ("KP_Insert", 90, Key.ZERO),
        ("KP_5", 84, Key.FIVE),
        ("KP_Enter", 104, Key.ENTER),
        ("F2", 68, Key.LANGUAGE),
        ("a", 38, None),
        ("Tab", 23, None),
        (None, 255, None),
    ],
)
def test_keys_are_known_by_symbol_then_by_place(name: str | None, code: int, key: Key | None) -> None:
    assert key_of(name, code) is key


def _filled(digits: str) -> PinBuffer:
    pin = PinBuffer()
    for digit in digits:
        pin.add(digit)
    return pin


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()


def test_the_pipe_holds_the_digits_and_ends() -> None:
    assert _read(_filled("0427").into_pipe()) == b"0427"


def test_handing_over_wipes_the_buffer() -> None:
    pin = _filled("123456")
    _read(pin.into_pipe())
    assert len(pin) == 0
    assert pin._bytes == bytearray(MAXIMUM)


def test_erased_digits_are_gone_from_memory() -> None:
    pin = _filled("99")
    pin.erase()
    pin.erase()
    pin.erase()
    assert (len(pin), pin._bytes) == (0, bytearray(MAXIMUM))


def test_a_full_buffer_takes_no_more() -> None:
    assert _read(_filled("1" * MAXIMUM + "2").into_pipe()) == b"1" * MAXIMUM


def test_the_pin_is_not_in_its_repr() -> None:
    assert "1234" not in repr(_filled("1234"))
