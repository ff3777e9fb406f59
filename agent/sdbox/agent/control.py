"""The one consumer of the event queue: every decision is made here, one event after the other.

Work that takes time runs as *the job*; it reports back by posting events under its number, and what a job of the past
still has in the queue is dropped. So a card that was pulled cannot be verified late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from sdbox.agent import events as m
from sdbox.agent import journal
from sdbox.agent.card import CardSeat
from sdbox.agent.jobs import Jobs, Post, Work
from sdbox.agent.machine import State, step
from sdbox.agent.meaning import Meaning
from sdbox.agent.memory import refusals, remembered
from sdbox.agent.parts import Parts
from sdbox.agent.presence import Presence
from sdbox.agent.session import ask_offers
from sdbox.agent.view import Memory, View, view_of
from sdbox.agent.wipe import CARD_REMOVED, FAILED, LIMIT, SWITCH, USER, wipe
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.values import CardInserted, CardRemoved

CAUSES: Final[dict[type[m.Event], str]] = {
    CardRemoved: CARD_REMOVED,
    m.CardExpired: LIMIT,
    m.FreshPick: SWITCH,
    m.Cancel: USER,
    m.DesktopEnded: USER,
}


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
        self._settled = False
        self.parts = wire(self)
        self._meaning = Meaning(self._here, self.parts.door)

    def post(self, event: m.Event) -> None:
        """Queue an event."""
        self._put(None, event)

    def post_from_thread(self, event: m.Event) -> None:
        """Queue an event from a library's thread: the decision is not made there."""
        self._loop.call_soon_threadsafe(self.post, event)

    def broken(self, error: BaseException) -> None:
        """Something died that nobody waits for: the agent fails (S11)."""
        journal.broken(error)
        self.post(m.Broken())

    def broken_from_thread(self, error: BaseException) -> None:
        """The same for any other thread."""
        self._loop.call_soon_threadsafe(self.broken, error)

    def submit_pin(self, pin: bytearray) -> None:
        """Take the PIN over: it is used for one VERIFY, or overwritten at once if none was asked for."""
        self._here.keep_pin(pin)
        self.post(m.SubmitPin())

    async def run(self) -> None:
        """Consume events until cancelled. Whatever callback or task dies unseen meanwhile is noticed here."""
        self._loop.set_exception_handler(self._unseen)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_time())
            tasks.create_task(self._consume())

    def _unseen(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A refusal that nobody waits for any more is none of these: whoever was refused is gone."""
        error = context.get("exception") or RuntimeError(context["message"])
        if isinstance(error, Refusal):
            journal.explain(error)
        else:
            self.broken(error)

    async def _keep_time(self) -> None:
        """Ask the clock now and then; the decision is made where all are."""
        while True:
            await asyncio.sleep(self.parts.clock.period)
            if (reason := self.parts.clock.due()) is not None:
                self.post(m.CardExpired(reason))

    async def _consume(self) -> None:
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
        if isinstance(event, m.UserEvent):
            self.parts.clock.touch()
        if isinstance(event, m.Acknowledge) and self.state is State.REFUSED_LINK:
            self.parts.link.hurry()
        known = self._meaning.of(event, self.state, self._memory)
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

    def _remember(self, event: m.Event) -> None:
        self._memory = remembered(self._memory, event, self.state)
        for reason in refusals(event, self._memory):
            journal.refused(reason)

    def _enter(self, before: State, event: m.Event, when: float) -> None:
        """Begin what the new state is about."""
        match self.state:
            case State.NETWORK | State.INSERT_CARD | State.LOCKED | State.REFUSED_CARD:
                self._wait_for_world()
            case State.READING_CARD:
                self._read_card(event)
            case State.FINGER | State.CHECKING_PIN if (seat := self._here.seat) is not None:
                self._verify(seat)
            case State.OFFERING if (seat := self._here.seat) is not None:
                journal.phase("verified")
                self.parts.clock.begin()
                self._jobs.start(_report(ask_offers(self.parts.link.channel, seat)))
            case State.PIN:
                self._forget_reason()
            case State.PICK:
                self._forget_reason()
                self._offer(before)
            case State.CONNECTING if isinstance(event, m.Pick):
                self._connect(event.project)
            case State.CLOSING | State.ENDING if before is not State.CLOSING:
                self._close(event, when)
            case State.FAILED:
                self._fail(when)

    def _wait_for_world(self) -> None:
        if (seat := self._here.leave()) is not None:
            # The card went, or the link, while only the session was being wiped; or a verified card opens nothing.
            self._jobs.aside(seat.close())
        self.parts.clock.end()
        if self.state in {State.LOCKED, State.REFUSED_CARD}:
            return
        self._memory = Memory()
        if self.state is State.INSERT_CARD:
            self._expect_card()
        if self.state is State.NETWORK and self._meaning.link_reason is not None:
            self.post(m.LinkRefused(self._meaning.link_reason))  # it was refused while the session was being wiped

    def _expect_card(self) -> None:
        self.parts.waiting.expect()
        if not self._settled:
            self._settled = True
            self._jobs.aside(self.parts.waiting.settle())
        if (card := self._here.waiting()) is not None:
            self.post(card)  # it went in before the box was attested

    def _read_card(self, event: m.Event) -> None:
        if not isinstance(event, CardInserted):
            self._read_again()
            return
        journal.phase("card-in")
        self._jobs.start(_report(self._here.begin(self.parts.seat(event)).read()))

    def _read_again(self) -> None:
        """End the card's login with a reset, then ask for its holder anew: one VERIFY, for the pick (S7)."""
        self.parts.clock.end()
        if self._here.card is None:
            return  # pulled: its event is on its way
        seat = self.parts.seat(self._here.card)
        old = self._here.again(seat)
        closing = self._jobs.aside(old.close()) if old is not None else None  # begun at once: a job may be cancelled

        async def work(post: Post) -> None:
            if closing is not None:
                await asyncio.wait({closing})
            post(await seat.read())

        self._jobs.start(work)

    def _offer(self, before: State) -> None:
        """Go on with a project whose bubble wanted its holder verified."""
        if before is State.OFFERING:
            journal.phase("offers")
        following = self._here.wanted or self._here.cleared
        if following and self._memory.offer(following) is not None:
            self.post(m.Pick(following))
        else:
            self._here.wanted = self._here.cleared = ""  # the gateway does not offer it any more

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
        self._here.cleared = ""  # good for one entry
        self._memory = replace(self._memory, project=project, reason=None)
        channel, door = self.parts.link.channel, self.parts.door
        door.kill_picture()  # of the project we switch away from
        self._jobs.start(lambda post: door.visit(channel, seat, offer, post))

    def _close(self, event: m.Event, when: float) -> None:
        self.parts.door.kill_picture()
        if self.state is State.ENDING:
            self.parts.clock.end()
        cause = CAUSES.get(type(event), FAILED)
        seat = self._here.leave() if self.state is State.ENDING else None
        self._jobs.start(self._wiping(cause, when, seat), whole=True)

    def _wiping(self, cause: str, when: float, seat: CardSeat | None) -> Work:
        async def work(post: Post) -> None:
            try:
                await wipe(cause, when, self.parts.door, seat)
                post(m.WipedReady())  # `_after_wipe` says which one it is
            finally:
                self._jobs.aside(self.parts.door.close_at_centre(self.parts.link.channel, cause))

        return work

    def _fail(self, when: float) -> None:
        journal.refused(Reason.INTERNAL)
        self._jobs.start(self._wiping(FAILED, when, self._here.leave()), whole=True)
        self.failed.set()

    def _forget_reason(self) -> None:
        self._memory = replace(self._memory, reason=None)

    def _show(self) -> None:
        if self.state is State.PICK and (self._here.wanted or self._here.cleared):
            return  # only passing through
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
