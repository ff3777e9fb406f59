"""The agent's state machine: states, events and ONE table of allowed moves. Pure; `control.py` acts on what it says.

Fails closed: a pair that is not in the table leads to FAILED, and FAILED ends only by a restart (S11). `docs/flow.md`
shows the same table, and a test compares the two. The table is also the security argument in small: SESSION has
CONNECTING as its only way in, CONNECTING comes only from PICK and PICKER, PICK only after `Offered`, which only follows
`Verified`; and no card event does anything before `Attested`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sdbox.agent.events import (
    Acknowledge,
    Attested,
    Cancel,
    CardExpired,
    CardRefused,
    Confirm,
    DesktopEnded,
    DesktopShown,
    Event,
    FingerAwaited,
    FingerRefused,
    FreshPick,
    LastFinger,
    LastPin,
    LinkLost,
    LinkRefused,
    LinkUp,
    Offered,
    Pick,
    PinAwaited,
    PinRefused,
    ProjectRefused,
    SessionRevoked,
    Started,
    SubmitPin,
    SwitchKey,
    Verified,
    WipedIdle,
    WipedLocked,
    WipedOffline,
    WipedReady,
    WipedRefused,
)
from sdbox.smartcard.values import CardInserted, CardRemoved


class State(StrEnum):
    """Where the box is. `SHOWN` says what the screen calls it."""

    STARTING = "starting"
    NETWORK = "network"  # no channel
    ATTESTING = "attesting"  # a channel, not yet attested
    INSERT_CARD = "insert-card"
    READING_CARD = "reading-card"
    FINGER = "finger"  # one VERIFY is running
    PIN = "pin"
    CHECKING_PIN = "checking-pin"  # one VERIFY is running
    LAST_FINGER = "last-finger"  # one more mistake blocks the card: the user confirms first
    LAST_PIN = "last-pin"
    OFFERING = "offering"  # holder verified; the gateway judges the containers
    PICK = "pick"
    CONNECTING = "connecting"
    SESSION = "session"
    PICKER = "picker"  # the picker over a running desktop
    CLOSING = "closing"  # the session ends, the card's login stays
    ENDING = "ending"  # everything ends: no card any more, or no attested channel
    LOCKED = "locked"  # the card is in, its session has ended by time
    REFUSED_LINK = "refused-link"
    REFUSED_FINGER = "refused-finger"
    REFUSED_PIN = "refused-pin"
    REFUSED_CARD = "refused-card"
    REFUSED_PROJECT = "refused-project"
    FAILED = "failed"


SHOWN: Final[dict[State, str]] = {
    **{state: state.value for state in State},
    State.CHECKING_PIN: "reading-card",
    State.LAST_FINGER: "last-try",
    State.LAST_PIN: "last-try",
    State.OFFERING: "reading-card",
    State.ENDING: "closing",
    State.LOCKED: "refused",
    State.REFUSED_LINK: "refused",
    State.REFUSED_FINGER: "refused",
    State.REFUSED_PIN: "refused",
    State.REFUSED_CARD: "refused",
    State.REFUSED_PROJECT: "refused",
    State.FAILED: "refused",
}


Table = dict[tuple[State, type[Event]], State]
_S = State

# What a user does, or the world, may come a moment too late for the state it was meant for: it then changes nothing.
_USER_EVENTS = (Pick, FreshPick, SubmitPin, Cancel, Acknowledge, Confirm, SwitchKey)
_LATE: Table = {(state, event): state for state in State for event in _USER_EVENTS}
_NO_CARD_YET = (_S.STARTING, _S.NETWORK, _S.ATTESTING, _S.REFUSED_LINK, _S.ENDING, _S.FAILED)
_READER: Table = {(state, event): state for state in _NO_CARD_YET for event in (CardInserted, CardRemoved)}
_LINK_EVENTS = (LinkUp, Attested, LinkRefused, LinkLost, SessionRevoked)
_BACKGROUND: Table = {(state, event): state for state in (_S.ENDING, _S.FAILED) for event in _LINK_EVENTS}
# A revocation may cross the end of its session on the wire.
_CROSSED: Table = {
    (state, SessionRevoked): state
    for state in State
    if state not in (_S.STARTING, _S.NETWORK, _S.ATTESTING, _S.REFUSED_LINK)
}
_CARD_IN = (
    *(_S.READING_CARD, _S.FINGER, _S.PIN, _S.CHECKING_PIN, _S.OFFERING, _S.PICK, _S.CONNECTING, _S.SESSION, _S.PICKER),
    *(_S.LAST_FINGER, _S.LAST_PIN, _S.CLOSING, _S.REFUSED_FINGER, _S.REFUSED_PIN, _S.REFUSED_CARD),
    _S.REFUSED_PROJECT,
)
_ENDS: Table = {(state, event): _S.ENDING for state in _CARD_IN for event in (CardRemoved, LinkLost)}
_VERIFIED = (_S.OFFERING, _S.PICK, _S.CONNECTING, _S.SESSION, _S.PICKER, _S.CLOSING, _S.REFUSED_PROJECT)
_EXPIRES: Table = {(state, CardExpired): _S.ENDING for state in _VERIFIED}
_SESSION_ENDS: Table = {
    (state, event): _S.CLOSING
    for state in (_S.CONNECTING, _S.SESSION, _S.PICKER)
    for event in (ProjectRefused, SessionRevoked, DesktopEnded)
}

ALLOWED: Final[Table] = {
    **_LATE,
    **_READER,
    **_BACKGROUND,
    **_CROSSED,
    **_ENDS,
    **_EXPIRES,
    **_SESSION_ENDS,
    (_S.STARTING, Started): _S.NETWORK,
    (_S.NETWORK, LinkUp): _S.ATTESTING,
    (_S.NETWORK, LinkRefused): _S.REFUSED_LINK,
    (_S.NETWORK, Attested): _S.INSERT_CARD,  # the link came back while the session was being wiped
    (_S.ATTESTING, LinkUp): _S.ATTESTING,  # what did not work is tried again before it is told
    (_S.ATTESTING, Attested): _S.INSERT_CARD,
    (_S.ATTESTING, LinkRefused): _S.REFUSED_LINK,
    (_S.REFUSED_LINK, LinkUp): _S.REFUSED_LINK,
    (_S.REFUSED_LINK, LinkRefused): _S.REFUSED_LINK,
    (_S.REFUSED_LINK, Attested): _S.INSERT_CARD,
    (_S.INSERT_CARD, LinkLost): _S.NETWORK,
    (_S.INSERT_CARD, CardInserted): _S.READING_CARD,
    (_S.INSERT_CARD, CardRemoved): _S.INSERT_CARD,
    (_S.READING_CARD, FingerAwaited): _S.FINGER,
    (_S.READING_CARD, PinAwaited): _S.PIN,
    (_S.READING_CARD, LastFinger): _S.LAST_FINGER,
    (_S.READING_CARD, LastPin): _S.LAST_PIN,
    (_S.READING_CARD, CardRefused): _S.REFUSED_CARD,
    (_S.FINGER, Verified): _S.OFFERING,
    (_S.FINGER, FingerRefused): _S.REFUSED_FINGER,
    (_S.FINGER, LastFinger): _S.LAST_FINGER,
    (_S.FINGER, CardRefused): _S.REFUSED_CARD,
    (_S.LAST_FINGER, Confirm): _S.FINGER,
    (_S.LAST_FINGER, Cancel): _S.REFUSED_CARD,
    (_S.REFUSED_FINGER, Acknowledge): _S.FINGER,
    (_S.PIN, SubmitPin): _S.CHECKING_PIN,
    (_S.CHECKING_PIN, Verified): _S.OFFERING,
    (_S.CHECKING_PIN, PinRefused): _S.REFUSED_PIN,
    (_S.CHECKING_PIN, LastPin): _S.LAST_PIN,
    (_S.CHECKING_PIN, CardRefused): _S.REFUSED_CARD,
    (_S.LAST_PIN, Confirm): _S.PIN,
    (_S.LAST_PIN, Cancel): _S.REFUSED_CARD,
    (_S.REFUSED_PIN, Acknowledge): _S.PIN,
    (_S.OFFERING, Offered): _S.PICK,
    (_S.OFFERING, CardRefused): _S.REFUSED_CARD,
    (_S.PICK, Pick): _S.CONNECTING,
    (_S.PICK, FreshPick): _S.READING_CARD,  # the card is reset and its holder verified for this bubble alone
    (_S.CONNECTING, Cancel): _S.CLOSING,
    (_S.CONNECTING, DesktopShown): _S.SESSION,
    (_S.SESSION, SwitchKey): _S.PICKER,
    (_S.PICKER, SwitchKey): _S.SESSION,
    (_S.PICKER, Cancel): _S.SESSION,
    (_S.PICKER, Pick): _S.CONNECTING,
    (_S.PICKER, FreshPick): _S.CLOSING,
    (_S.REFUSED_PROJECT, Acknowledge): _S.PICK,
    (_S.ENDING, WipedIdle): _S.INSERT_CARD,
    (_S.ENDING, WipedLocked): _S.LOCKED,
    (_S.LOCKED, CardInserted): _S.READING_CARD,  # the same card again, as the user says so
    (_S.LOCKED, CardRemoved): _S.INSERT_CARD,
    (_S.LOCKED, LinkLost): _S.NETWORK,
    (_S.ENDING, WipedOffline): _S.NETWORK,
    (_S.CLOSING, WipedRefused): _S.REFUSED_PROJECT,
    (_S.CLOSING, WipedReady): _S.PICK,
}


def step(state: State, event: Event) -> State:
    """Return the state after `event`; FAILED if the pair is not allowed."""
    return ALLOWED.get((state, type(event)), State.FAILED)


def is_verified(state: State) -> bool:
    """Whether the holder is verified, and the card logged in, in this state."""
    return state in _VERIFIED


def has_card(state: State) -> bool:
    """Whether a card worker, and maybe a session, exists in this state."""
    return state in _CARD_IN
