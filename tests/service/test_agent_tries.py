"""S7 with real cards: whatever users do in whatever order, a VERIFY is an act of theirs, and the last one a yes.

Each example has its own agent and emulated cards: there are few. tests/service/test_agent_tries_scripted.py has many.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sdbox.agent.machine import State
from sdbox.bench.card_emulated import POLLED, EmulatedCard
from sdbox.bench.card_reader import Pcscd, running_pcscd, wait_for
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import variant_named
from tests.service.card_agent import agent_at_reader, issued_card
from tests.service.gateway_bench import Bench, running_bench
from tests.service.tries_hands import ACTS, EXAMPLES, LAST, Hands, TurnedClock, Verified

pytestmark = pytest.mark.root
OTHER = {"sc-hsm-bio": "piv", "piv": "sc-hsm-bio", "piv-occ": "piv"}


class RealCards:
    """Two emulated cards, of which one is in hand."""

    def __init__(self, card: EmulatedCard, names: list[str]) -> None:
        self._card, self._hands = card, [(_verified(name), {"tries": 3}) for name in names]
        self._read = 0

    @property
    def verified(self) -> Verified:
        return self._hands[0][0]

    @property
    def tries(self) -> int:
        return self._hands[0][1]["tries"]

    def verifies(self) -> int:
        found = self._card.verifies
        fresh, self._read = self._card.events[self._read :], len(self._card.events)
        for event in fresh:
            if told := re.fullmatch(r"verify tries=(\d+)", event):
                self._hands[0][1]["tries"] = int(told[1])
        return found

    def waits(self) -> bool:
        said = [event for event in self._card.events if event.startswith("sensor") and event != "sensor off"]
        return said[-1:] == ["sensor wait"]

    def insert(self) -> None:
        self._card.insert()

    def remove(self) -> None:
        self._card.remove()

    def swap(self) -> None:
        self._card.tell("swap")
        self._hands.reverse()

    def unplug(self) -> None:
        self._card.tell("unplug")
        self._card.expect("reader out")

    def plug(self) -> None:
        time.sleep(POLLED)  # as for an insertion: see `EmulatedCard.insert`
        self._card.tell("plug")
        self._card.expect("reader in")

    def touch(self, finger: str) -> bool:
        before = len(self._card.events)
        self._card.tell(f"touch {finger}")
        wait_for(lambda: any(event.startswith("sensor") for event in self._card.events[before:]), "the sensor to say")
        return self._card.events[-1] != "sensor off"


def _verified(name: str) -> Verified:
    variant = variant_named(name)
    if variant.login.method is LoginMethod.PIN:
        return Verified.PIN
    return Verified.TEMPLATE if variant.wants_box_sensor else Verified.SENSOR


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


@pytest.mark.parametrize("variant", OTHER)
def test_a_verify_is_an_act_of_the_user_and_the_last_one_a_yes(
    bench: Bench, pcscd: Pcscd, folder: Path, variant: str
) -> None:
    reached = set()

    @settings(
        max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @example(acts=EXAMPLES[0])
    @example(acts=EXAMPLES[1])
    @example(acts=EXAMPLES[2])
    @example(acts=EXAMPLES[3])
    @given(acts=st.lists(ACTS, min_size=8, max_size=16))
    def play(acts: list[str]) -> None:
        other = ("--other", f"{OTHER[variant]}:atlas,boreal")
        with issued_card(bench, pcscd, folder, ("atlas", "boreal"), *other, variant=variant) as card:

            async def scene() -> None:
                clock = TurnedClock()
                async with agent_at_reader(bench, folder, clock=clock.card_clock()) as agent:
                    await agent.until(State.INSERT_CARD)
                    hands = Hands(agent, RealCards(card, [variant, OTHER[variant]]), clock)
                    for act in ["insert", *acts]:
                        await hands.do(act)
                        reached.add(agent.agent.state)

            asyncio.run(scene())

    play()
    assert reached & LAST, "no example came as far as the last try"
    assert State.LOCKED in reached
