"""A user's hands at a reader, and which of their acts may each begin one VERIFY (S7); for real and scripted cards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from hypothesis import strategies as st

from sdbox.agent.cardclock import IDLE_MINUTES, MINUTE, CardClock
from sdbox.agent.events import Acknowledge, Cancel, Confirm, Event, Pick, SwitchKey
from sdbox.agent.machine import State
from sdbox.bench.softtoken import PIN
from tests.service.agent_bench import AgentBench

WRONG_PIN = "999999"
LAST = {State.LAST_FINGER, State.LAST_PIN}
RESTING = (
    *(State.INSERT_CARD, State.FINGER, State.PIN, State.PICK, State.SESSION, State.PICKER, State.LOCKED),
    *(*LAST, State.REFUSED_FINGER, State.REFUSED_PIN, State.REFUSED_CARD),
)
READ = tuple(set(RESTING) - {State.INSERT_CARD, State.LOCKED})
TIMED = {State.PICK, State.SESSION, State.PICKER}
EVENTS: dict[str, Event] = {
    "acknowledge": Acknowledge(),
    "confirm": Confirm(),
    "cancel": Cancel(),
    "enter": Pick("atlas"),
    "fresh": Pick("boreal"),  # its bubble wants a fresh finger
    "switch": SwitchKey(),
}
MOVES = ("insert", "remove", "other", "unplug")
# Mistakes and going on are more frequent than they are in life: the last try must be reached.
ACTS = st.sampled_from(
    (4 * ["wrong"] + 4 * ["acknowledge"] + 2 * ["confirm", "insert", "right"])
    + ["cancel", "remove", "enter", "fresh", "switch", "other", "unplug", "link", "expire"]
)
EXAMPLES = (
    ["wrong", "acknowledge", "wrong", "acknowledge", "acknowledge", "right", "confirm", "right"],
    ["wrong", "acknowledge", "wrong", "remove", "insert", "acknowledge", "right", "confirm", "wrong"],
    ["wrong", "acknowledge", "wrong", "confirm", "link", "acknowledge", "right", "confirm", "right", "expire"],
    ["right", "expire", "acknowledge", "right", "fresh", "right", "switch", "link", "acknowledge", "right", "other"],
)


class Verified(Enum):
    """What makes a card compare."""

    SENSOR = "sensor"  # the card's own: it begins when the box asks, whether anybody touches it or not
    TEMPLATE = "template"  # of the box's sensor: it begins with a touch
    PIN = "pin"


class Cards(Protocol):
    """Two cards and a reader. What moves returns when it is done; the agent's part comes after."""

    @property
    def verified(self) -> Verified:
        """Of the card in hand."""

    @property
    def tries(self) -> int:
        """What the card in hand has told last."""

    def verifies(self) -> int:
        """Return how often a card was asked to compare, by now."""

    def waits(self) -> bool:
        """Whether a finger is awaited."""

    def insert(self) -> None: ...
    def remove(self) -> None: ...
    def unplug(self) -> None: ...
    def plug(self) -> None: ...

    def swap(self) -> None:
        """Take the other card in hand; the reader is empty."""

    def touch(self, finger: str) -> bool:
        """Put a finger down; whether it was noticed."""


@dataclass
class Hands:
    """A user, and what they may expect. `agreed`: they have said yes to the last try, and it was not spent yet."""

    agent: AgentBench
    cards: Cards
    clock: TurnedClock
    inside: bool = False
    unasked: bool = False  # the card has not been asked since it went in: its insertion still counts
    agreed: bool = False
    acts: list[str] = field(default_factory=list)

    async def do(self, act: str) -> None:
        """Act, wait until nothing goes on by itself, and see that no VERIFY came of it that may not."""
        state = self.agent.agent.state
        if act in {"wrong", "right"} and state is State.PIN:
            act = f"{act}-pin"
        self.acts.append(f"{state}: {act}")
        before = self.cards.verifies()
        may = await self._act(act, state)
        tries = self.cards.tries
        await self._rest()
        begun = self.cards.verifies() - before
        assert begun <= int(may), (f"{begun} VERIFYs", self.acts)
        if begun:
            assert tries > 1 or self.agreed, ("the last try was not agreed to", self.acts)
            self.unasked = self.agreed = False

    async def _act(self, act: str, state: State) -> bool:
        """Act; return whether that may begin a VERIFY."""
        sensor = self.cards.verified is Verified.SENSOR
        if act in MOVES:
            await self._move(act)
            return act != "remove" and self.unasked and self.cards.verified is Verified.SENSOR
        if act == "link":
            await self._lose_link()
            return sensor and self.unasked
        if act == "expire":
            await self._expire(state)
            return False
        if act.endswith("-pin"):
            self.agent.agent.submit_pin(bytearray((PIN if act == "right-pin" else WRONG_PIN).encode()))
            return True
        if act in {"wrong", "right"}:
            await self._touch("good" if act == "right" else "wrong")
            return self.cards.verified is Verified.TEMPLATE and state is State.FINGER
        self.agreed = self.agreed or (act == "confirm" and state in LAST)
        self.agent.agent.post(EVENTS[act])
        return sensor and state in {
            "acknowledge": {State.REFUSED_FINGER, State.INSERT_CARD, State.LOCKED},
            "confirm": {State.LAST_FINGER},
            "fresh": {State.PICK, State.PICKER},
        }.get(act, set())

    async def _move(self, act: str) -> None:
        was_inside = self.inside
        if was_inside and act in {"remove", "other", "unplug"}:
            await asyncio.to_thread(self.cards.unplug if act == "unplug" else self.cards.remove)
            self.inside = self.unasked = self.agreed = False
            await self.agent.until(State.INSERT_CARD)
        if act == "other":
            self.cards.swap()
        if (act == "insert" and not was_inside) or (act in {"other", "unplug"} and was_inside):
            await asyncio.to_thread(self.cards.plug if act == "unplug" else self.cards.insert)
            self.inside = self.unasked = True
            await self.agent.until(*READ)

    async def _lose_link(self) -> None:
        link = self.agent.agent.parts.link
        lost = link.channel
        assert lost is not None
        self.agreed = False
        lost._stream.abort()
        await happens(lambda: link.channel is None, "the link to be lost")
        link.hurry()
        await happens(lambda: link.channel is not None, "the box to be attested again")

    async def _expire(self, state: State) -> None:
        self.clock.minutes += IDLE_MINUTES
        if state in TIMED:
            await self.agent.until(State.LOCKED)

    async def _touch(self, finger: str) -> None:
        if await asyncio.to_thread(self.cards.touch, finger):
            await happens(lambda: self.agent.agent.state is not State.FINGER, "the finger to be told")

    async def _rest(self) -> None:
        """Wait until nothing goes on by itself: with a finger awaited, until the sensor waits."""
        await asyncio.sleep(0.02)  # what was posted is taken
        await self.agent.until(*RESTING)
        if self.agent.agent.state is State.FINGER:
            await happens(self.cards.waits, "the sensor to wait")


class TurnedClock:
    """A clock that the hands turn."""

    def __init__(self) -> None:
        self.minutes = 0.0

    def card_clock(self) -> CardClock:
        return CardClock(now=lambda: self.minutes * MINUTE, period=0.01)


async def happens(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        await asyncio.sleep(0.005)
