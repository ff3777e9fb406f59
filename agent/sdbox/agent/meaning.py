"""What an event means for this box now: the same event, another one of the table, or none at all.

What has to happen in the very step that a card is pulled happens here: the picture goes before the state is asked (S6).
"""

from __future__ import annotations

from typing import Final, Protocol

from sdbox.agent import events as m
from sdbox.agent.machine import State, is_verified
from sdbox.agent.presence import Presence
from sdbox.agent.view import Memory
from sdbox.protocol.reasons import Reason
from sdbox.smartcard.values import CardInserted, CardRemoved

# No VERIFY was begun with a card that is read for the first time in these states.
UNTOUCHED: Final = {State.READING_CARD, State.PIN}
TIMED_OUT: Final = {Reason.CARD_IDLE, Reason.CARD_LIMIT}


class Picture(Protocol):
    """What of a session counts here; see `session.Door`."""

    session: str | None

    def kill_picture(self) -> None: ...


class Meaning:
    """Keeps what outlasts states: the card that is in, and whether there is an attested channel."""

    def __init__(self, here: Presence, door: Picture) -> None:
        self.attested = False
        self.link_reason: Reason | None = None
        self._here = here
        self._door = door

    def of(self, event: m.Event, state: State, memory: Memory) -> m.Event | None:
        """Return the event as the table knows it; None if it is not for this box now."""
        match event:
            case CardInserted():
                return self._here.inserted(event)
            case CardRemoved():
                return self._removed(event)
            case m.Attested() | m.LinkLost() | m.LinkRefused():
                self._note_link(event, state)
            case m.SessionRevoked(session) if session != self._door.session:
                return None
            case m.CardExpired() if not is_verified(state):
                return None
            case m.Verified(card) if not self._here.verified(card):
                return m.CardRefused(Reason.CARD_FAILED)  # another card than the one that was sat down
        return self._of_user(event, state, memory)

    def _of_user(self, event: m.Event, state: State, memory: Memory) -> m.Event | None:
        match event:
            case m.Pick(project):
                return self._picked(project, state, memory)
            case m.Acknowledge() if state in {State.INSERT_CARD, State.LOCKED} and self._here.card is not None:
                return self._here.card  # the user asks for the card that stayed in: one VERIFY may follow (S7)
            case m.Confirm():
                self._here.last_try = state in {State.LAST_FINGER, State.LAST_PIN}
            case m.WipedReady():
                return self._after_wipe(state, memory)
        return event

    def _note_link(self, event: m.Attested | m.LinkLost | m.LinkRefused, state: State) -> None:
        self.attested = isinstance(event, m.Attested)
        self.link_reason = event.reason if isinstance(event, m.LinkRefused) else None
        if state in UNTOUCHED and not self.attested:
            self._here.untouched = True  # no VERIFY was begun since the insertion: that still counts (S7)

    def _removed(self, event: CardRemoved) -> m.Event | None:
        known = self._here.removed(event)
        if known is not None:
            self._door.kill_picture()  # before anything else, in whatever state: the picture must go (S6)
        return known

    def _picked(self, project: str, state: State, memory: Memory) -> m.Event | None:
        """A pick of what is already open only closes the picker; one that is not offered is none."""
        if state is State.PICKER and project == memory.project:
            return m.Cancel()
        offer = memory.offer(project)
        if offer is None or not offer.fresh or self._here.cleared == project:
            return m.Pick(project) if offer else None
        if state in {State.PICK, State.PICKER}:
            self._here.wanted = project
        return m.FreshPick(project)

    def _after_wipe(self, state: State, memory: Memory) -> m.Event:
        """Where closing leads: what is gone decides."""
        if state is State.CLOSING and memory.reason is not None:
            self._here.wanted = ""  # the user reads why, and picks anew
            return m.WipedRefused()
        if state is State.CLOSING:
            return m.WipedReady()
        if not self.attested:
            return m.WipedOffline()
        locked = self._here.card is not None and memory.reason in TIMED_OUT
        return m.WipedLocked() if locked else m.WipedIdle()
