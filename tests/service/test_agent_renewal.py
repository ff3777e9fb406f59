"""A certificate past half of its life is renewed beside the session, which does not feel it: agent, gateway, token."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.agent.events import SwitchKey
from sdbox.agent.machine import State
from sdbox.bench.softtoken import PIN
from tests.service.agent_bench import AgentBench, NoTunnel, alive, running_agent, token
from tests.service.gateway_bench import Bench, running_bench
from tests.service.gateway_site import running_gateway
from tests.service.renewal_bench import ISSUING
from tests.service.smartcard_bench import run

pytestmark = pytest.mark.root
MODULE = ("--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "sdbox", "--login", "--pin", PIN)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with (
        running_bench(tmp_path_factory.mktemp("agent")) as plain,
        running_gateway(plain.site, **ISSUING) as gateway,
    ):
        yield Bench(gateway, plain.box, plain.tunnels)


@pytest.fixture
def folder(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with token(bench, tmp_path / "token", "atlas", "boreal", days=-0.5):
        yield tmp_path


def objects() -> dict[str, int]:
    """Count what another program sees on the token."""
    listed = run("pkcs11-tool", *MODULE, "--list-objects").stdout
    return {kind: len(re.findall(rf"^{kind}", listed, flags=re.MULTILINE)) for kind in ("Private Key", "Certificate")}


def openable(agent: AgentBench) -> list[str]:
    return sorted(offer.project for offer in agent.view.projects if offer.reason is None)


def renewal_phases(text: str) -> list[str]:
    return re.findall(r"sdbox-phase (renewal-\S+) ", text)


async def until_renewed(agent: AgentBench) -> None:
    async with asyncio.timeout(30):
        await agent.renewals.settled()


def test_renewed_in_one_session_confirmed_in_the_next(
    bench: Bench, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            (client,) = agent.clients()
            await until_renewed(agent)
            assert agent.agent.state is State.SESSION
            assert alive(client), "the session felt the renewal"
            assert objects() == {"Private Key": 4, "Certificate": 4}
            agent.agent.post(SwitchKey())
            await agent.until(State.PICKER)
            await agent.in_session("boreal")  # with the old certificate: the new one has not signed yet
            agent.remove()
            await agent.until(State.INSERT_CARD)
            await agent.verified()
            assert openable(agent) == ["atlas", "boreal"]
            await agent.in_session("atlas")
            await until_renewed(agent)
            assert objects() == {"Private Key": 2, "Certificate": 2}
            agent.agent.post(SwitchKey())
            await agent.until(State.PICKER)
            await agent.in_session("boreal")  # with the new one
            agent.remove()
            await agent.until(State.INSERT_CARD)
            await agent.verified()
            await agent.in_session("atlas")
            await until_renewed(agent)  # nothing is due any more

    asyncio.run(scene())
    begun, ended = ["renewal-key", "renewal-issued", "renewal-written"], ["renewal-confirmed", "renewal-done"]
    assert renewal_phases(capsys.readouterr().out) == 2 * begun + 2 * ended
    confirmed = [line for line in bench.gateway.events() if line["event"] == "renewal-confirmed"]
    assert sorted(line["project"] for line in confirmed) == ["atlas", "boreal"]  # SoftHSM keeps no order


def test_a_card_pulled_while_it_is_renewed(bench: Bench, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            for pulled in range(4):
                await agent.verified()
                await agent.in_session("atlas")
                await asyncio.sleep(0.05 * pulled)  # wherever it is by then
                agent.remove()
                await agent.until(State.INSERT_CARD)
            for _ in range(2):
                await agent.verified()
                assert openable(agent) == ["atlas", "boreal"]
                await agent.in_session("atlas")
                await until_renewed(agent)
                agent.remove()
                await agent.until(State.INSERT_CARD)
            # What lost its other half is still on the token, and opens nothing: SoftHSM itself writes in many steps.
            await agent.verified()
            assert len(agent.view.projects) == 2
            assert openable(agent) == ["atlas", "boreal"]

    asyncio.run(scene())
    assert "renewal-done" in renewal_phases(capsys.readouterr().out)


def test_a_centre_without_a_ca_costs_the_card_nothing(bench: Bench, folder: Path) -> None:
    async def scene() -> None:
        with running_gateway(bench.site) as plain:
            async with running_agent(Bench(plain, bench.box, bench.tunnels), folder, lambda _: NoTunnel()) as agent:
                await agent.verified()
                await agent.in_session("atlas")
                await until_renewed(agent)
        assert objects() == {"Private Key": 2, "Certificate": 2}

    asyncio.run(scene())


def test_what_a_cut_off_removal_left_goes_with_the_next_renewal(bench: Bench, folder: Path) -> None:
    stray = ("--write-object", str(folder / "token" / "1.der"), "--type", "cert", "--id", "77", "--label", "atlas")
    run("pkcs11-tool", *MODULE, *stray)
    assert objects() == {"Private Key": 2, "Certificate": 3}

    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            await until_renewed(agent)

    asyncio.run(scene())
    assert objects() == {"Private Key": 4, "Certificate": 4}
