"""S7 with a real card: whatever users do in whatever order, a VERIFY is an act of theirs, and the last one a yes."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sdbox.agent.events import Acknowledge, Cancel, Confirm, Event, Pick, SwitchKey
from sdbox.agent.machine import State
from sdbox.bench.card_emulated import EmulatedCard
from sdbox.bench.card_reader import Pcscd, running_pcscd
from sdbox.bench.softtoken import PIN
from tests.service.agent_bench import AgentBench
from tests.service.card_agent import agent_at_reader, issued_card
from tests.service.gateway_bench import Bench, running_bench

pytestmark = pytest.mark.root
RESTING = (
    *(State.INSERT_CARD, State.FINGER, State.PIN, State.PICK, State.SESSION, State.PICKER),
    *(State.LAST_FINGER, State.LAST_PIN, State.REFUSED_FINGER, State.REFUSED_PIN, State.REFUSED_CARD),
)
EVENTS: dict[str, Event] = {
    "acknowledge": Acknowledge(),
    "confirm": Confirm(),
    "cancel": Cancel(),
    "pick": Pick("boreal"),  # its bubble wants a fresh finger
    "switch": SwitchKey(),
}
# The acts that may each begin one VERIFY; a PIN is one too.
BEGINNERS = {"insert", "acknowledge", "confirm", "pick", "wrong-pin", "right-pin"}
# Mistakes and going on are more frequent than they are in life: the last try must be reached.
ACTS = st.sampled_from(
    4 * ["wrong"] + 4 * ["acknowledge"] + 2 * ["confirm", "insert"] + ["right", "cancel", "remove", "pick", "switch"]
)


@dataclass
class Hands:
    """A user, and what they did. `agreed` holds how many VERIFYs there had been at each yes to the last try."""

    agent: AgentBench
    card: EmulatedCard
    inside: bool = False
    begun: int = 0
    agreed: set[int] = field(default_factory=set)

    async def do(self, act: str) -> None:
        state = self.agent.agent.state
        if act in {"wrong", "right"} and state is State.PIN:
            act = f"{act}-pin"
        self.begun += act in BEGINNERS
        if act == "confirm" and state in {State.LAST_FINGER, State.LAST_PIN}:
            self.agreed.add(verifies(self.card))
        if act in {"insert", "remove"}:
            await self._move(act)
        elif act in EVENTS:
            self.agent.agent.post(EVENTS[act])
        elif act.endswith("-pin"):
            self.agent.agent.submit_pin(bytearray((PIN if act == "right-pin" else "999999").encode()))
        else:
            await self._touch("good" if act == "right" else "wrong")
        await self._rest()

    async def _move(self, act: str) -> None:
        if (act == "insert") is not self.inside:
            await asyncio.to_thread(self.card.insert if act == "insert" else self.card.remove)
            self.inside = not self.inside
            wanted = (State.INSERT_CARD,) if act == "remove" else tuple(set(RESTING) - {State.INSERT_CARD})
            await self.agent.until(*wanted)

    async def _touch(self, finger: str) -> None:
        before = len(self.card.events)
        self.card.tell(f"touch {finger}")
        await happens(lambda: any(event.startswith("sensor") for event in self.card.events[before:]))
        if self.card.events[-1] != "sensor off":
            await happens(lambda: self.agent.agent.state is not State.FINGER)

    async def _rest(self) -> None:
        """Wait until nothing goes on by itself: with a finger awaited, until the sensor waits."""
        await asyncio.sleep(0.02)  # what was posted is taken
        await self.agent.until(*RESTING)
        if self.agent.agent.state is State.FINGER:
            await happens(lambda: waits(self.card))


async def happens(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for the card"
        await asyncio.sleep(0.005)


def waits(card: EmulatedCard) -> bool:
    said = [event for event in card.events if event.startswith("sensor") and event != "sensor off"]
    return bool(said) and said[-1] == "sensor wait"


def verifies(card: EmulatedCard) -> int:
    """Return how many VERIFYs were begun: each lets the sensor wait, or has compared a PIN."""
    return sum(event == "sensor wait" for event in card.events) or card.verifies


def last_tries(card: EmulatedCard) -> list[int]:
    """Return which VERIFYs, counted from 0, began with one try left."""
    found, tries, number = [], 3, 0
    sensor = "sensor wait" in card.events
    for event in card.events:
        if event == "sensor wait" or (not sensor and event.startswith("verify ")):
            if tries == 1:
                found.append(number)
            number += 1
        if told := re.fullmatch(r"verify tries=(\d+)", event):
            tries = int(told[1])
    return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("tries"), fresh=("boreal",)) as bench:
        yield bench


@pytest.fixture(scope="module")
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("variant", ["sc-hsm-bio", "piv"])
def test_a_verify_is_an_act_of_the_user_and_the_last_one_a_yes(
    bench: Bench, pcscd: Pcscd, folder: Path, variant: str
) -> None:
    reached = set()

    @settings(
        max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @example(acts=["wrong", "acknowledge", "wrong", "acknowledge", "acknowledge", "right", "confirm", "right"])
    @example(acts=["wrong", "acknowledge", "wrong", "remove", "insert", "acknowledge", "right", "confirm", "wrong"])
    @given(acts=st.lists(ACTS, min_size=8, max_size=16))
    def play(acts: list[str]) -> None:
        with issued_card(bench, pcscd, folder, ("atlas", "boreal"), variant=variant) as card:

            async def scene() -> None:
                async with agent_at_reader(bench, folder) as agent:
                    await agent.until(State.INSERT_CARD)
                    hands = Hands(agent, card)
                    for act in ["insert", *acts]:
                        await hands.do(act)
                        reached.add(agent.agent.state)
                        assert verifies(card) <= hands.begun, (acts, card.events)
                        assert set(last_tries(card)) <= hands.agreed, (acts, card.events)

            asyncio.run(scene())

    play()
    assert reached & {State.LAST_FINGER, State.LAST_PIN}, "no example came as far as the last try"
