"""The agent's state machine: the table is what docs/flow.md says, and no sequence of events gets around it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbox.agent import events as e
from sdbox.agent.machine import ALLOWED, SHOWN, State, has_card, step
from sdbox.agent.screen.palette import ScreenState
from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.values import CardInserted, CardRemoved

FLOW = Path(__file__).parents[2] / "docs" / "flow.md"
EVENTS: tuple[e.Event, ...] = (
    *(e.Started(), e.LinkUp(), e.Attested(), e.LinkRefused(Reason.BOX_UNKNOWN), e.LinkLost(Reason.PROTOCOL)),
    *(e.SessionRevoked("s", Reason.SESSION_REVOKED), CardInserted("r", b""), CardRemoved("r")),
    *(e.FingerAwaited(3), e.PinAwaited(3), e.LastFinger(1), e.LastPin(1, Reason.CARD_PIN), e.Confirm()),
    *(e.FingerRefused(Reason.CARD_FINGER, 2), e.PinRefused(Reason.CARD_PIN, 2)),
    *(e.CardRefused(Reason.CARD_EMPTY), e.Verified(CardIdentity("1", "v", ())), e.Offered(()), e.DesktopShown()),
    *(e.ProjectRefused(Reason.TUNNEL_FAILED), e.DesktopEnded(), e.Pick("atlas"), e.SubmitPin(), e.Cancel()),
    *(e.FreshPick("atlas"), e.CardExpired(Reason.CARD_IDLE), e.WipedLocked()),
    *(e.Acknowledge(), e.SwitchKey(), e.WipedIdle(), e.WipedOffline(), e.WipedRefused(), e.WipedReady(), e.Broken()),
)
LIKELY = st.sampled_from(EVENTS)


def test_every_event_is_tried_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(e.Event))


def test_flow_document_holds_the_same_table() -> None:
    rows = re.findall(
        r"^\| ([a-z-]+) \| ([A-Z][A-Za-z, ]+) \| ([a-z-]+) \|$", FLOW.read_text(encoding="utf-8"), re.MULTILINE
    )
    written = {(state, event, to) for state, names, to in rows for event in names.split(", ")}
    assert written == {(state.value, event.__name__, to.value) for (state, event), to in ALLOWED.items()}


def test_flow_document_says_what_the_screen_shows() -> None:
    rows = re.findall(r"^\| ([a-z-]+) \| ([a-z-]+) \|$", FLOW.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == {state.value: shown for state, shown in SHOWN.items() if shown != state.value}


def test_the_screen_knows_every_state_it_is_told() -> None:
    assert {ScreenState(shown) for shown in SHOWN.values()} == set(ScreenState)


@pytest.mark.parametrize("state", State)
def test_the_unexpected_fails_closed(state: State) -> None:
    assert step(state, e.Broken()) is State.FAILED


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_failed_is_for_ever(event: e.Event) -> None:
    assert step(State.FAILED, event) is State.FAILED


@pytest.mark.parametrize("state", [state for state in State if has_card(state)])
def test_removal_and_a_lost_link_end_every_state_with_a_card(state: State) -> None:
    assert step(state, CardRemoved("r")) is State.ENDING
    assert step(state, e.LinkLost(Reason.GATEWAY_UNREACHABLE)) is State.ENDING


@given(st.lists(LIKELY, max_size=40))
def test_no_session_without_attestation_login_offer_and_pick(sequence: list[e.Event]) -> None:
    """Whatever happens in whatever order, a session has its proofs behind it, in order, and none of them was undone."""
    state, proofs = State.STARTING, list[type[e.Event]]()
    for event in sequence:
        state = step(state, event)
        proofs = after(proofs, event)
        if state in {State.SESSION, State.PICKER}:
            assert in_order(proofs, (e.Attested, e.Verified, e.Offered, e.Pick, e.DesktopShown))


@given(st.data())
def test_allowed_walks_keep_the_proofs_too(data: st.DataObject) -> None:
    """The same along allowed moves only, so that sessions are really reached."""
    state, proofs = State.STARTING, list[type[e.Event]]()
    for _ in range(40):
        moves = [event for event in EVENTS if step(state, event) is not State.FAILED]
        event = data.draw(st.sampled_from(moves))
        state, proofs = step(state, event), after(proofs, event)
        if state in {State.SESSION, State.PICKER}:
            assert in_order(proofs, (e.Attested, e.Verified, e.Offered, e.Pick, e.DesktopShown))


def after(proofs: list[type[e.Event]], event: e.Event) -> list[type[e.Event]]:
    """Return the proofs that still hold after `event`."""
    if isinstance(event, e.LinkLost):
        return []
    if isinstance(event, CardRemoved):
        return [proof for proof in proofs if proof is e.Attested]
    return [*proofs, type(event)]


def in_order(seen: list[type[e.Event]], wanted: tuple[type[e.Event], ...]) -> bool:
    rest = iter(seen)
    return all(proof in rest for proof in wanted)


@pytest.mark.parametrize("state", State)
def test_one_verify_per_act_of_the_user(state: State) -> None:
    """S7: only an insertion just read, a typed PIN, an acknowledged refusal or a confirmed last try leads there."""
    ways = {
        (origin, event)
        for (origin, event), target in ALLOWED.items()
        if target is state is not origin and state in {State.FINGER, State.CHECKING_PIN}
    }
    allowed = {
        State.FINGER: {
            (State.READING_CARD, e.FingerAwaited),
            (State.REFUSED_FINGER, e.Acknowledge),
            (State.LAST_FINGER, e.Confirm),
        },
        State.CHECKING_PIN: {(State.PIN, e.SubmitPin)},
    }
    assert ways == allowed.get(state, set())


@pytest.mark.parametrize("state", [State.LAST_FINGER, State.LAST_PIN])
def test_before_the_last_try_only_the_users_word_goes_on(state: State) -> None:
    ways = {(event, target) for (origin, event), target in ALLOWED.items() if origin is state is not target}
    on = State.FINGER if state is State.LAST_FINGER else State.PIN
    ends = {(CardRemoved, State.ENDING), (e.LinkLost, State.ENDING)}
    assert ways == {(e.Confirm, on), (e.Cancel, State.REFUSED_CARD)} | ends
