"""A TPM that does not work, as the agent tells it: the reason on the screen at once, and the box heals by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sdbox.agent.attest import PATIENCE_SECONDS
from sdbox.agent.events import Acknowledge
from sdbox.agent.machine import State
from sdbox.agent.screen.texts import Language, explain
from sdbox.protocol.reasons import Reason
from tests.service.agent_bench import NoTunnel, running_agent
from tests.service.gateway_bench import Bench, running_bench, until
from tests.service.tpm_bus import Bus

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("agent")) as bench:
        yield bench


@pytest.fixture
def bus(plain: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Bus.to(plain.box.tcti, tmp_path / "interposer")


def through(plain: Bench, tcti: str) -> Bench:
    """The same gateway and box; its TPM is reached by another way."""
    return Bench(plain.gateway, replace(plain.box, tcti=tcti), plain.tunnels)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"*": 0x101}, Reason.BOX_TPM_FAILURE),
        ({"*": 0x921}, Reason.BOX_TPM_LOCKOUT),
        ({"0x131": 0x185}, Reason.BOX_TPM_DISABLED),
    ],
)
def test_what_is_wrong_is_on_the_screen_and_heals(
    plain: Bench, bus: Bus, tmp_path: Path, answers: dict[str, int], reason: Reason
) -> None:
    bus.plan(answer=answers)

    async def scene() -> None:
        async with running_agent(through(plain, bus.tcti), tmp_path, lambda _: NoTunnel()) as agent:
            await agent.until(State.REFUSED_LINK)
            assert agent.view.reason == reason.value
            assert len({explain(Reason(agent.view.reason), language) for language in Language}) == 2
            bus.plan()
            agent.agent.post(Acknowledge())
            await agent.until(State.INSERT_CARD)

    asyncio.run(scene())
    assert bus.left() == []


def test_a_busy_tpm_is_tried_again_before_anything_is_said(plain: Bench, bus: Bus, tmp_path: Path) -> None:
    bus.plan(answer={"*": 0x922})

    async def scene() -> None:
        async with running_agent(through(plain, bus.tcti), tmp_path, lambda _: NoTunnel()) as agent:
            await until("the TPM to be asked", lambda: len(bus.traffic()) > 5)
            assert agent.agent.state is not State.REFUSED_LINK
            bus.plan()
            await agent.until(State.INSERT_CARD)

    asyncio.run(scene())


def test_a_tpm_that_stays_busy_is_told_and_heals_by_itself(plain: Bench, bus: Bus, tmp_path: Path) -> None:
    bus.plan(answer={"*": 0x90A})

    async def scene() -> None:
        async with running_agent(through(plain, bus.tcti), tmp_path, lambda _: NoTunnel()) as agent:
            agent.agent.parts.link._since -= PATIENCE_SECONDS  # as if that long had passed
            await agent.until(State.REFUSED_LINK)
            assert agent.view.reason == "box-tpm-busy"
            bus.plan()
            await agent.until(State.INSERT_CARD)

    asyncio.run(scene())


def test_a_box_without_a_tpm_says_so_without_any_network(
    plain: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def scene() -> None:
        bench = through(plain, f"device:{tmp_path / 'tpmrm0'}")
        async with running_agent(bench, tmp_path, lambda _: NoTunnel()) as agent:
            await agent.until(State.REFUSED_LINK)
            assert agent.view.reason == "box-tpm-absent"

    asyncio.run(scene())
    assert "sdbox-phase network" not in capsys.readouterr().out
