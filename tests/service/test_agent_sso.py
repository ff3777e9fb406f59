"""One finger for a card's session: signatures without another, bubbles that want their own, and the limits of time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.agent.cardclock import CardClock
from sdbox.agent.events import Acknowledge, Cancel, Confirm, Pick, SwitchKey
from sdbox.agent.machine import State
from sdbox.bench.card_reader import Pcscd, running_pcscd
from sdbox.bench.softtoken import PIN
from tests.service.agent_bench import Fittings as Fit
from tests.service.agent_bench import NoTunnel, alive, running_agent, token
from tests.service.card_agent import agent_at_reader, finger, issued_card, signatures
from tests.service.gateway_bench import Bench, running_bench, until

pytestmark = pytest.mark.root
OTHERS = tuple(f"other-{index:02}" for index in range(18))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Boreal's bubble wants a fresh finger, atlas' does not."""
    with running_bench(tmp_path_factory.mktemp("sso"), fresh=("boreal",)) as bench:
        yield bench


@pytest.fixture
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_one_finger_and_a_signature_for_each_switch(bench: Bench, pcscd: Pcscd, folder: Path) -> None:
    with issued_card(bench, pcscd, folder, ("boreal", *OTHERS, "atlas")) as card:

        async def scene() -> None:
            async with agent_at_reader(bench, folder) as agent:
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.PICK)
                assert [offer.project for offer in agent.view.projects] == ["atlas", "boreal", *OTHERS]
                assert (card.verifies, signatures(card)) == (1, 1)  # the card's proof
                for entries in range(1, 4):
                    await agent.in_session("atlas")
                    assert (card.verifies, signatures(card)) == (1, 1 + entries)
                    agent.end_client(12)
                    await agent.until(State.PICK)
                    (folder / "end").unlink()

        asyncio.run(scene())
    opened = [event for event in bench.gateway.events() if event["event"] == "opened"]
    assert {event["project"] for event in opened[-3:]} == {"atlas"}


def test_a_bubble_that_wants_a_fresh_finger_gets_one_each_time(bench: Bench, pcscd: Pcscd, folder: Path) -> None:
    with issued_card(bench, pcscd, folder, ("atlas", "boreal")) as card:
        tunnel = NoTunnel()

        async def scene() -> None:
            async with agent_at_reader(bench, folder, tunnel=tunnel) as agent:
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.PICK)
                assert [offer.fresh for offer in agent.view.projects] == [False, True]
                await agent.in_session("atlas")
                agent.agent.post(SwitchKey())
                agent.agent.post(Pick("boreal"))
                await agent.until(State.FINGER)
                assert (bench.peers(), tunnel.open, alive(agent.clients()[0])) == (0, [], False)
                await finger(agent, card, State.REFUSED_FINGER, which="wrong")
                agent.agent.post(Acknowledge())
                await finger(agent, card, State.SESSION)
                assert (agent.view.current, card.verifies) == ("boreal", 3)
                agent.agent.post(SwitchKey())
                await agent.until(State.PICKER)
                await agent.in_session("atlas")
                assert card.verifies == 3
                agent.agent.post(SwitchKey())
                agent.agent.post(Pick("boreal"))
                await finger(agent, card, State.SESSION)
                assert (agent.view.current, card.verifies, tunnel.most) == ("boreal", 4, 1)
                card.remove()
                await agent.until(State.INSERT_CARD)

        asyncio.run(scene())


def test_pulling_the_card_instead_of_a_fresh_finger_leaves_nothing(bench: Bench, pcscd: Pcscd, folder: Path) -> None:
    with issued_card(bench, pcscd, folder, ("atlas", "boreal")) as card:

        async def scene() -> None:
            async with agent_at_reader(bench, folder) as agent:
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.PICK)
                agent.agent.post(Pick("boreal"))
                await agent.until(State.FINGER)
                card.remove()
                await agent.until(State.INSERT_CARD)
                assert (bench.peers(), agent.view.projects) == (0, ())
                card.insert()
                await finger(agent, card, State.PICK)
                await asyncio.sleep(0.2)  # the pick of before is forgotten
                assert agent.agent.state is State.PICK

        asyncio.run(scene())


@pytest.mark.parametrize("reason", ["card-idle", "card-limit"])
def test_a_limit_ends_the_cards_session(bench: Bench, folder: Path, reason: str) -> None:
    """With a clock that the test turns: in a session, a quarter of an hour without anybody, or the tenth hour."""
    minutes = 0.0
    clock = CardClock(15, 600, now=lambda: minutes * 60, period=0.01)

    async def scene() -> None:
        nonlocal minutes
        tunnel = NoTunnel()
        async with running_agent(bench, folder, lambda _: tunnel, fittings=Fit(clock=clock)) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            step, last = (14.9, 14.9) if reason == "card-idle" else (14.0, 580.0)
            while minutes < last:
                minutes += step
                await asyncio.sleep(0.03)  # three looks at the clock
                assert agent.agent.state is State.SESSION
                clock.touch()
            minutes += 15
            await agent.until(State.LOCKED)
            assert (agent.view.state, agent.view.reason, agent.view.projects) == ("refused", reason, ())
            assert tunnel.open == []
            assert not alive(agent.clients()[0])
            await until("the gateway to remove the peer", lambda: bench.peers() == 0)
            minutes += 1000
            await asyncio.sleep(0.03)
            assert agent.agent.state is State.LOCKED
            agent.agent.post(Acknowledge())
            await agent.until(State.PIN)
            agent.agent.submit_pin(bytearray(PIN.encode()))
            await agent.until(State.PICK)

    with token(bench, folder / "token", "atlas"):
        asyncio.run(scene())


def test_pulling_a_card_whose_session_timed_out(bench: Bench, folder: Path) -> None:
    minutes = 0.0
    clock = CardClock(15, 600, now=lambda: minutes * 60, period=0.01)

    async def scene() -> None:
        nonlocal minutes
        async with running_agent(bench, folder, lambda _: NoTunnel(), fittings=Fit(clock=clock)) as agent:
            await agent.verified()
            minutes = 15
            await agent.until(State.LOCKED)
            agent.remove()
            await agent.until(State.INSERT_CARD)
            assert agent.view.reason == ""

    with token(bench, folder / "token", "atlas"):
        asyncio.run(scene())


def test_the_last_try_asks_first_at_insertion_and_after_a_mistake(bench: Bench, pcscd: Pcscd, folder: Path) -> None:
    with issued_card(bench, pcscd, folder, ("atlas",)) as card:

        async def scene() -> None:
            async with agent_at_reader(bench, folder) as agent:
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.REFUSED_FINGER, which="wrong")
                agent.agent.post(Acknowledge())
                await finger(agent, card, State.LAST_FINGER, which="wrong")
                assert (agent.view.state, agent.view.reason, agent.view.tries) == ("last-try", "card-finger", 1)
                agent.agent.post(Acknowledge())
                agent.agent.post(Cancel())
                await agent.until(State.REFUSED_CARD)
                assert agent.view.reason == "card-last-try"
                card.remove()
                await agent.until(State.INSERT_CARD)
                card.insert()
                await agent.until(State.LAST_FINGER)
                assert (agent.view.reason, agent.view.tries, card.verifies) == ("card-last-try", 1, 2)
                agent.agent.post(Confirm())
                await finger(agent, card, State.PICK)
                assert card.verifies == 3

        asyncio.run(scene())
