"""S7 with scripted cards: hundreds of ways through the agent, each VERIFY an act of the user and the last one a yes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sdbox.agent.machine import State
from sdbox.smartcard.values import CardInserted, CardRemoved, LoginMethod
from tests.service.agent_bench import AgentBench, Fittings, NoTunnel, running_agent
from tests.service.gateway_bench import Bench, running_bench
from tests.service.scripted_cards import ScriptedCard, ScriptedReader
from tests.service.tries_hands import ACTS, EXAMPLES, Hands, TurnedClock, Verified

pytestmark = pytest.mark.root
WAYS = 60


class ScriptedCards:
    """Two scripted cards, one with a sensor and one with a PIN, and their reader."""

    def __init__(self, agent: AgentBench, reader: ScriptedReader) -> None:
        self._agent, self._all = agent, reader.cards

    @property
    def verified(self) -> Verified:
        return Verified.PIN if self._all[0].method is LoginMethod.PIN else Verified.SENSOR

    @property
    def tries(self) -> int:
        return self._all[0].tries

    def verifies(self) -> int:
        return sum(card.asked for card in self._all)

    def waits(self) -> bool:
        return self._all[0].waiting

    def insert(self) -> None:
        self._agent.agent.post_from_thread(CardInserted("", b""))

    def remove(self) -> None:
        self._agent.agent.post_from_thread(CardRemoved(""))

    plug, unplug = insert, remove

    def swap(self) -> None:
        self._all.reverse()

    def touch(self, finger: str) -> bool:
        return self._all[0].touch(finger)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("tries"), fresh=("boreal",)) as bench:
        yield bench


def play_ways(bench: Bench, folder: Path, methods: list[LoginMethod]) -> set[State]:
    """Let an agent go WAYS ways, each with new cards; return the states in which it came to rest."""
    reached, clock = set[State](), TurnedClock()
    held = [(project, bench.container(project)) for project in ("atlas", "boreal")]

    async def scene(agent: AgentBench, reader: ScriptedReader, acts: list[str]) -> None:
        reader.cards[:] = [ScriptedCard(method, held) for method in methods]
        hands = Hands(agent, ScriptedCards(agent, reader), clock)
        for act in ["insert", *acts]:
            await hands.do(act)
            reached.add(agent.agent.state)
        await hands.do("remove")
        await agent.until(State.INSERT_CARD)

    with ScriptedReader(folder) as reader, asyncio.Runner() as runner:
        fittings = Fittings(reader.seat, clock.card_clock())
        running = running_agent(bench, folder, lambda _: NoTunnel(), fittings=fittings)
        agent = runner.run(running.__aenter__())
        runner.run(agent.until(State.INSERT_CARD))

        @settings(
            max_examples=WAYS, deadline=None, phases=[Phase.explicit, Phase.generate], print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        )  # fmt: skip
        @example(acts=EXAMPLES[0])
        @example(acts=EXAMPLES[1])
        @example(acts=EXAMPLES[2])
        @example(acts=EXAMPLES[3])
        @given(acts=st.lists(ACTS, min_size=6, max_size=20))
        def play(acts: list[str]) -> None:
            runner.run(scene(agent, reader, acts))

        play()
        runner.run(running.__aexit__(None, None, None))
    return reached


@pytest.mark.parametrize("first", [LoginMethod.FINGER, LoginMethod.PIN])
def test_a_verify_is_an_act_of_the_user_and_the_last_one_a_yes(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: LoginMethod
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    methods = sorted(LoginMethod, key=lambda method: method is not first)
    reached = play_ways(bench, tmp_path, methods)
    last = State.LAST_FINGER if first is LoginMethod.FINGER else State.LAST_PIN
    assert reached >= {last, State.LOCKED, State.SESSION, State.PICKER, State.REFUSED_CARD}
