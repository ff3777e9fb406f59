"""The limits of a card's session, by a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbox.agent.cardclock import CardClock
from sdbox.protocol.reasons import Reason


class Hands:
    """A clock's hands, in minutes."""

    def __init__(self) -> None:
        self.minutes = 0.0

    def clock(self, idle: float = 15, session: float = 600) -> CardClock:
        return CardClock(idle, session, now=lambda: self.minutes * 60)


def test_nothing_is_due_before_a_verification_nor_after_the_end() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.minutes = 10_000
    assert clock.due() is None
    clock.begin()
    clock.end()
    hands.minutes = 20_000
    clock.touch()
    assert clock.due() is None


@pytest.mark.parametrize(("minutes", "reason"), [(14.9, None), (15, Reason.CARD_IDLE), (600, Reason.CARD_LIMIT)])
def test_nobody_there(minutes: float, reason: Reason | None) -> None:
    hands = Hands()
    clock = hands.clock()
    clock.begin()
    hands.minutes = minutes
    assert clock.due() is reason


def test_somebody_there_all_day_is_verified_again_in_the_end() -> None:
    hands = Hands()
    clock = hands.clock()
    clock.begin()
    for minute in range(599):
        hands.minutes = minute
        clock.touch()
        assert clock.due() is None
    hands.minutes = 600
    clock.touch()
    assert clock.due() is Reason.CARD_LIMIT
    clock.begin()
    assert clock.due() is None


@given(st.lists(st.floats(0, 30), max_size=30), st.floats(1, 20), st.floats(1, 200))
def test_touching_never_moves_the_absolute_limit(pauses: list[float], idle: float, session: float) -> None:
    hands = Hands()
    clock = hands.clock(idle, session)
    clock.begin()
    touched = 0.0
    for pause in pauses:
        hands.minutes += pause
        seconds = hands.minutes * 60
        idly = Reason.CARD_IDLE if seconds - touched >= idle * 60 else None
        assert clock.due() is (Reason.CARD_LIMIT if seconds >= session * 60 else idly)
        clock.touch()
        touched = seconds
