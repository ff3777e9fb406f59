"""The one consumer of the event queue: every decision is made here, one event after the other.

Work that takes time runs as *the job*; it reports back by posting events under its number, and what a job of the past
still has in the queue is dropped. So a card that was pulled cannot be verified late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from sdbox.agent import events as m
from sdbox.agent import journal
from sdbox.agent.attest import CentreLink
from sdbox.agent.card import CardSeat
from sdbox.agent.dbus import AgentInterface
from sdbox.agent.jobs import Jobs, Post, Work
from sdbox.agent.machine import State, step
from sdbox.agent.presence import Presence
from sdbox.agent.session import Door, ask_offers
from sdbox.agent.view import Memory, View, view_of
from sdbox.agent.wipe import CARD_REMOVED, FAILED, USER, wipe
from sdbox.protocol.reasons import Reason
from sdbox.smartcard.values import CardInserted, CardRemoved

# No VERIFY was begun with a card that is read for the first time in these states.
UNTOUCHED: Final = {State.READING_CARD, State.PIN}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agent drives. `seat` makes the place for an inserted card."""

    screen: AgentInterface
    link: CentreLink
    door: Door
    seat: Callable[[CardInserted], CardSeat]


class Agent:
    """State, event queue, job. `post` is for the loop's thread, `post_from_thread` for any other."""

    def __init__(self, wire: Callable[[Agent], Parts]) -> None:
        self.state = State.STARTING
        self.failed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int | None, m.Event, float]] = asyncio.Queue()
        self._jobs = Jobs(self._put)
        self._view = View()
        self._memory = Memory()
        self._here = Presence()
        self._attested = False
        self._link_reason: Reason | None = None
        self.parts = wire(self)

    def post(self, event: m.Event) -> None:
        """Queue an event."""
        self._put(None, event)

    def post_from_thread(self, event: m.Event) -> None:
        """Queue an event from a library's thread: the decision is not made there."""
        self._loop.call_soon_threadsafe(self.post, event)

    def submit_pin(self, pin: bytearray) -> None:
        """Take the PIN over: it is used for one VERIFY, or overwritten at once if none was asked for."""
        self._here.keep_pin(pin)
        self.post(m.SubmitPin())

    async def run(self) -> None:
        """Consume events until cancelled."""
        while True:
            number, event, when = await self._queue.get()
            if number is None or number == self._jobs.current:
                self.handle(event, when)

    async def settled(self) -> None:
        """Wait until no job runs, a wipe above all."""
        await self._jobs.settled()

    async def stop(self) -> None:
        """End whatever is open: the agent itself ends."""
        self.parts.door.kill_picture()
        self._jobs.cancel()
        await self._jobs.settled()
        await wipe(FAILED, time.monotonic(), self.parts.door, self._here.leave())

    def handle(self, event: m.Event, when: float) -> None:
        """Do what `event` means now. Never waits. `when`: time.monotonic() when it was posted."""
        known = self._note(event)
        if known is None:
            return
        before, self.state = self.state, step(self.state, known)
        self._remember(known)
        if self.state is not before:
            self._enter(before, known, when)
        if self.state is not State.CHECKING_PIN:
            self._here.drop_pin()
        self._show()

    def _put(self, number: int | None, event: m.Event) -> None:
        self._queue.put_nowait((number, event, time.monotonic()))

    def _note(self, event: m.Event) -> m.Event | None:  # noqa: PLR0911 - a table of events, one line each
        """Keep what outlasts states, and return the event as the table knows it; None if it is not for this box now."""
        match event:
            case CardInserted():
                return self._here.inserted(event)
            case CardRemoved():
                return self._removed(event)
            case m.Attested() | m.LinkLost() | m.LinkRefused():
                self._note_link(event)
            case m.SessionRevoked(session) if session != self.parts.door.session:
                return None
            case m.Pick(project):
                return self._picked(project)
            case m.Acknowledge():
                return self._acknowledged(event)
            case m.Confirm():
                self._here.last_try = self.state in {State.LAST_FINGER, State.LAST_PIN}
            case m.WipedReady():
                return self._after_wipe()
        return event

    def _note_link(self, event: m.Attested | m.LinkLost | m.LinkRefused) -> None:
        self._attested = isinstance(event, m.Attested)
        self._link_reason = event.reason if isinstance(event, m.LinkRefused) else None
        if self.state in UNTOUCHED and not self._attested:
            self._here.untouched = True  # no VERIFY was begun since the insertion: that still counts (S7)

    def _acknowledged(self, event: m.Acknowledge) -> m.Event:
        if self.state is State.REFUSED_LINK:
            self.parts.link.hurry()
        if self.state is State.INSERT_CARD and self._here.card is not None:
            return (
                self._here.card
            )  # the user asks for the card that stayed in: their action, so one VERIFY may follow (S7)
        return event

    def _removed(self, event: CardRemoved) -> m.Event | None:
        known = self._here.removed(event)
        if known is not None:
            self.parts.door.kill_picture()  # before anything else, in whatever state: the picture must go (S6)
        return known

    def _picked(self, project: str) -> m.Event | None:
        """A pick of what is already open only closes the picker; one that is not offered is none."""
        if self.state is State.PICKER and project == self._memory.project:
            return m.Cancel()
        return m.Pick(project) if self._memory.offer(project) else None

    def _after_wipe(self) -> m.Event:
        """Where closing leads: what is gone decides."""
        if self.state is State.CLOSING:
            return m.WipedReady() if self._memory.reason is None else m.WipedRefused()
        if (seat := self._here.leave()) is not None:
            self._jobs.aside(seat.close())
        return m.WipedIdle() if self._attested else m.WipedOffline()

    def _remember(self, event: m.Event) -> None:
        match event:
            case m.FingerAwaited(tries) | m.PinAwaited(tries):
                self._memory = replace(self._memory, tries=tries)
            case m.LastFinger(tries, refused) | m.LastPin(tries, refused):
                self._memory = replace(self._memory, tries=tries)
                self._refuse(refused or Reason.CARD_LAST_TRY)
            case m.FingerRefused(reason, tries) | m.PinRefused(reason, tries):
                self._memory = replace(self._memory, tries=tries)
                self._refuse(reason)
            case m.CardRefused(reason) | m.ProjectRefused(reason) | m.SessionRevoked(reason=reason):
                self._refuse(reason)
            case m.LinkRefused(reason) if self.state is State.REFUSED_LINK:
                self._refuse(reason)
            case m.LinkLost(reason) if reason is not Reason.GATEWAY_UNREACHABLE:
                journal.refused(reason)
            case m.Offered(offers):
                self._memory = replace(self._memory, offers=offers)
                for offer in offers:
                    if offer.reason is not None:
                        journal.refused(offer.reason)

    def _refuse(self, reason: Reason) -> None:
        self._memory = replace(self._memory, reason=reason)
        journal.refused(reason)

    def _enter(self, before: State, event: m.Event, when: float) -> None:
        """Begin what the new state is about."""
        match self.state:
            case State.NETWORK | State.INSERT_CARD:
                self._wait_for_world()
            case State.READING_CARD if isinstance(event, CardInserted):
                self._read_card(event)
            case State.FINGER | State.CHECKING_PIN if (seat := self._here.seat) is not None:
                self._verify(seat)
            case State.OFFERING if (seat := self._here.seat) is not None:
                journal.phase("verified")
                self._jobs.start(_report(ask_offers(self.parts.link.channel, seat)))
            case State.PIN | State.PICK:
                self._forget_reason()
                if before is State.OFFERING:
                    journal.phase("offers")
            case State.CONNECTING if isinstance(event, m.Pick):
                self._connect(event.project)
            case State.CLOSING | State.ENDING if before is not State.CLOSING:
                self._close(event, when)
            case State.FAILED:
                self._fail(when)

    def _wait_for_world(self) -> None:
        self._memory = Memory()
        if self.state is State.NETWORK and self._link_reason is not None:
            self.post(m.LinkRefused(self._link_reason))  # it was refused while the session was being wiped
        if self.state is State.INSERT_CARD and (card := self._here.waiting()) is not None:
            self.post(card)  # it went in before the box was attested

    def _read_card(self, card: CardInserted) -> None:
        journal.phase("card-in")
        self._jobs.start(_report(self._here.begin(self.parts.seat(card)).read()))

    def _verify(self, seat: CardSeat) -> None:
        """Begin exactly one VERIFY (S7)."""
        self._forget_reason()
        self._jobs.start(_report(seat.login(self._here.take_pin(), last_try=self._here.take_last_try())))

    def _connect(self, project: str) -> None:
        seat, offer = self._here.seat, self._memory.offer(project)
        if seat is None or offer is None:
            self.post(m.Broken())  # `_picked` let it through: they are there
            return
        journal.phase("picked")
        self._memory = replace(self._memory, project=project, reason=None)
        channel, door = self.parts.link.channel, self.parts.door
        door.kill_picture()  # of the project we switch away from
        self._jobs.start(lambda post: door.visit(channel, seat, offer, post))

    def _close(self, event: m.Event, when: float) -> None:
        self.parts.door.kill_picture()
        cause = (
            CARD_REMOVED
            if isinstance(event, CardRemoved)
            else USER
            if isinstance(event, m.Cancel | m.DesktopEnded)
            else FAILED
        )
        seat = self._here.leave() if self.state is State.ENDING else None
        self._jobs.start(self._wiping(cause, when, seat))

    def _wiping(self, cause: str, when: float, seat: CardSeat | None) -> Work:
        async def work(post: Post) -> None:
            try:
                await wipe(cause, when, self.parts.door, seat)
                post(m.WipedReady())  # `_after_wipe` says which one it is
            finally:
                self._jobs.aside(self.parts.door.close_at_centre(self.parts.link.channel, cause))

        return work

    def _fail(self, when: float) -> None:
        journal.refused(self._memory.reason or Reason.INTERNAL)
        self._jobs.start(self._wiping(FAILED, when, self._here.leave()))
        self.failed.set()

    def _forget_reason(self) -> None:
        self._memory = replace(self._memory, reason=None)

    def _show(self) -> None:
        view = view_of(self.state, self._memory)
        if view != self._view:
            if view.state != self._view.state:
                journal.state(view.state)
            self._view = view
            self.parts.screen.show(view)


def _report(step_of_card: Awaitable[m.Event]) -> Work:
    async def work(post: Post) -> None:
        post(await step_of_card)

    return work
