"""A wipe that goes wrong somewhere still ends everything else: the card's worker above all."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sdbox.agent.events import Broken, CardExpired
from sdbox.agent.machine import State
from sdbox.bench.softtoken import PIN
from sdbox.protocol.reasons import Reason
from tests.service.agent_bench import AgentBench, NoTunnel, alive, running_agent, token
from tests.service.gateway_bench import Bench, running_bench, until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("agent")) as bench:
        yield bench


@pytest.fixture
def folder(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with token(bench, tmp_path / "token", "atlas"):
        yield tmp_path


@dataclass
class Faulty(NoTunnel):
    """A tunnel of which one step fails, once: what the kernel may answer at any time."""

    step: str = ""

    def _fail(self, step: str) -> None:
        if step == self.step:
            self.step = ""
            raise OSError(errno.ENOBUFS, "no buffer space")

    async def silence(self) -> None:
        self._fail("silence")
        await super().silence()

    async def down(self) -> None:
        self._fail("down")
        await super().down()

    async def tidy(self) -> None:
        self._fail("tidy")
        await super().tidy()


def worker(agent: AgentBench) -> int:
    seat = agent.agent._here.seat
    assert seat is not None
    return seat._live().pid


@pytest.mark.parametrize("step", ["silence", "down", "tidy"])
def test_a_step_that_fails_keeps_no_card_logged_in(
    bench: Bench, folder: Path, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tunnel = Faulty()

    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: tunnel) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            card = worker(agent)
            tunnel.step = step
            agent.agent.post(CardExpired(Reason.CARD_LIMIT))
            await agent.until(State.FAILED)
            await agent.agent.settled()
            assert not alive(card)
            assert not alive(agent.clients()[0])
            assert tunnel.open == []
            assert (agent.view.state, agent.view.reason) == ("refused", "internal")

    asyncio.run(scene())
    assert "sdbox-note broken: OSError in test_agent_wipe.py:" in capsys.readouterr().out


class Slow(NoTunnel):
    """A tunnel whose keys take a moment to go: time for something else to go wrong."""

    begun = False

    async def silence(self) -> None:
        self.begun = True
        await asyncio.sleep(0.3)  # what the test is about
        await super().silence()


def test_a_failure_in_the_middle_of_a_wipe_cuts_nothing_of_it_short(bench: Bench, folder: Path) -> None:
    tunnel = Slow()

    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: tunnel) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            card = worker(agent)
            agent.agent.post(CardExpired(Reason.CARD_LIMIT))
            await until("the wipe to begin", lambda: tunnel.begun)
            agent.agent.post(Broken())
            await agent.until(State.FAILED)
            await agent.agent.settled()
            assert not alive(card)
            assert tunnel.open == []

    asyncio.run(scene())


@pytest.mark.parametrize("where", ["callback", "task", "thread"])
def test_what_dies_where_nobody_looks_ends_the_session(bench: Bench, folder: Path, where: str) -> None:
    async def die() -> None:
        raise ZeroDivisionError

    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            card, loop = worker(agent), asyncio.get_running_loop()
            if where == "callback":
                loop.call_soon(lambda: 1 // 0)
            elif where == "task":
                loop.create_task(die())
            else:
                await asyncio.to_thread(agent.agent.broken_from_thread, ZeroDivisionError())
            await agent.until(State.FAILED)
            await agent.agent.settled()
            assert not alive(card)
            assert not alive(agent.clients()[0])

    asyncio.run(scene())


def test_a_card_without_offers_is_logged_out(bench: Bench, tmp_path: Path) -> None:
    """It stays refused until it is pulled, maybe for hours: nobody must be able to sign with it."""

    async def scene() -> None:
        async with running_agent(bench, tmp_path, lambda _: NoTunnel()) as agent:
            await agent.until(State.INSERT_CARD)
            agent.insert()
            await agent.until(State.PIN)
            card = worker(agent)
            agent.agent.submit_pin(bytearray(PIN.encode()))
            await agent.until(State.REFUSED_CARD)
            await agent.agent.settled()
            assert not alive(card)
            assert agent.view.reason == "card-empty"
            agent.remove()
            await agent.until(State.INSERT_CARD)

    with token(bench, tmp_path / "empty"):
        asyncio.run(scene())
