"""Results that are renewed again and again beside a session, which feels none of it, and one that is not: it ends (S2).

The agent is the real one, with a TPM fed with the recorded log; what it sends is counted on the wire.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import tpm2_pytss as tss

from sdbox.agent.machine import State
from sdbox.attestation.tpm import Tpm
from tests.service.agent_bench import AgentBench, NoTunnel, alive, running_agent, token
from tests.service.gateway_bench import Bench, until
from tests.service.recorded_box import BOX, Desk, powered, running_desk
from tests.unit.evidence_cases import load

pytestmark = pytest.mark.root
RENEWALS = 50
RESULT_SECONDS = 1.6  # renewed at three fifths, when the gateway looks: 50 of them in a minute
SOON = 15.0


class Wire:
    """Passes on what the agent says to the gateway, and counts it."""

    def __init__(self) -> None:
        self.sent = 0

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        while data := await reader.read(65536):
            count(len(data))
            writer.write(data)
            await writer.drain()
        writer.close()

    def count(self, size: int) -> None:
        self.sent += size


@asynccontextmanager
async def running_wire(endpoint: str) -> AsyncIterator[tuple[Wire, str]]:
    """Stand between an agent and the gateway at `endpoint`."""
    wire, tasks = Wire(), set()
    host, _, port = endpoint.rpartition(":")

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        for task in (
            asyncio.ensure_future(wire.carry(reader, far_writer, wire.count)),
            asyncio.ensure_future(wire.carry(far_reader, writer, lambda _: None)),
        ):
            tasks.add(task)

    async with await asyncio.start_server(met, "127.0.0.1", 0) as server:
        yield wire, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with running_desk(tmp_path_factory.mktemp("results"), seconds=RESULT_SECONDS) as desk:
        yield desk


@pytest.fixture
def bench(shared: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A box that never was there, powered on, and a token with one project."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    shared.forget_clocks()
    with powered(replace(shared, work=tmp_path).copy()) as box:
        bench = shared.with_box(box)
        with token(bench, tmp_path / "token", "atlas"):
            yield bench


def noted(bench: Bench, event: str) -> list[dict[str, str]]:
    return [line for line in bench.gateway.events() if line["event"] == event]


@asynccontextmanager
async def in_session(bench: Bench, folder: Path) -> AsyncIterator[AgentBench]:
    async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
        await agent.verified()
        await agent.in_session("atlas")
        yield agent


def test_fifty_renewals_beside_a_session(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        async with running_wire(bench.gateway.endpoint) as (wire, endpoint):
            through = Bench(replace(bench.gateway, endpoint=endpoint), bench.box, bench.tunnels)
            async with in_session(through, tmp_path) as agent:
                (client,) = agent.clients()
                ended, first, sent = len(noted(bench, "ended")), len(noted(bench, "attested")), wire.sent
                capsys.readouterr()
                await until("the renewals", lambda: len(noted(bench, "attested")) >= first + RENEWALS, 4 * RENEWALS)
                assert (agent.agent.state, agent.view.reason) == (State.SESSION, "")
                assert alive(client)
                assert agent.clients() == [client]
                assert (bench.peers(), len(noted(bench, "ended"))) == (1, ended)
                assert "sdbox-state" not in capsys.readouterr().out
                # A quote, its signature, the key and ten PCRs, beside the session's heartbeats; no event log.
                assert (wire.sent - sent) / RENEWALS < len(load("good").evidence.event_log) / 2

    asyncio.run(scene())


def extend_pcr_11(tpm: Tpm) -> None:
    """What a program on the box could do: the TPM takes one client, which is the agent."""
    digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=bytes(32)))
    tpm._esapi.pcr_extend(tss.ESYS_TR.PCR11, tss.TPML_DIGEST_VALUES([digest]))


def test_a_pcr_that_changes_beside_a_session(bench: Bench, tmp_path: Path) -> None:
    async def scene() -> None:
        async with in_session(bench, tmp_path) as agent:
            (client,) = agent.clients()
            await agent.agent.parts.link._prover._run(extend_pcr_11)
            await agent.until(State.REFUSED_LINK, seconds=SOON)
            assert agent.view.reason == "box-evidence"
            assert not alive(client)
            await until("the session to end", lambda: bench.peers() == 0)

    asyncio.run(scene())
    assert noted(bench, "refused")[-1]["detail"] == "18:eventlog-replay 23:pcr-11"
    assert noted(bench, "ended")[-1]["cause"] == "box-evidence"


def test_a_box_that_is_forgotten_beside_a_session(shared: Desk, bench: Bench, tmp_path: Path) -> None:
    async def scene() -> None:
        async with in_session(bench, tmp_path) as agent:
            (client,) = agent.clients()
            done = await asyncio.to_thread(bench.gateway.command, "forget", "--box-id", str(BOX))
            assert done.returncode == 0, done.stderr
            await agent.until(State.REFUSED_LINK, seconds=SOON)
            assert agent.view.reason == "box-unknown"
            assert not alive(client)
            await until("the session to end", lambda: bench.peers() == 0)

    try:
        asyncio.run(scene())
    finally:
        shared.enrol("tpm", BOX)
    assert noted(bench, "ended")[-1]["cause"] == "box-unknown"
