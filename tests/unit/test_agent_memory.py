"""What the agent remembers of refusals, and which of them the journal is told."""

from __future__ import annotations

from sdbox.agent import events as m
from sdbox.agent.machine import State
from sdbox.agent.memory import refusals, remembered
from sdbox.agent.view import Memory
from sdbox.protocol.reasons import Reason


def test_keeping_the_last_try_is_a_refusal_with_a_code() -> None:
    asked = remembered(Memory(), m.LastFinger(1, Reason.CARD_FINGER), State.LAST_FINGER)
    assert refusals(m.LastFinger(1, Reason.CARD_FINGER), asked) == (Reason.CARD_FINGER,)
    kept = remembered(asked, m.Cancel(), State.REFUSED_CARD)
    assert (kept.reason, refusals(m.Cancel(), kept)) == (Reason.CARD_LAST_TRY, (Reason.CARD_LAST_TRY,))


def test_leaving_something_else_is_none() -> None:
    going = remembered(Memory(project="atlas"), m.Cancel(), State.CLOSING)
    assert refusals(m.Cancel(), going) == ()
