"""A box whose gateway says nothing more does not count as attested for longer than its last result is good for."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.agent.machine import State
from tests.service.agent_bench import NoTunnel, running_agent
from tests.service.gateway_bench import Bench, running_bench
from tests.service.gateway_site import Gateway, running_gateway

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("agent")) as bench:
        yield bench


def test_a_gateway_that_falls_silent_keeps_no_box_attested(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its kernel still answers for it: only the result's own life tells the box."""

    async def scene(silent: Gateway) -> None:
        async with running_agent(Bench(silent, bench.box, bench.tunnels), tmp_path, lambda _: NoTunnel()) as agent:
            await agent.until(State.INSERT_CARD)
            silent.process.send_signal(signal.SIGSTOP)
            try:
                await agent.until(State.NETWORK, State.ATTESTING)
            finally:
                silent.process.send_signal(signal.SIGCONT)
            await agent.until(State.INSERT_CARD)

    with running_gateway(bench.site, result_seconds=2) as gateway:
        asyncio.run(scene(gateway))
    assert "sdbox-refused result-lapsed" in capsys.readouterr().out
