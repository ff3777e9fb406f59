"""Cards with 1 to 20 containers, in any order: each is shown for what it is, and none costs the others anything."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from sdbox.agent.events import Acknowledge, Pick
from sdbox.agent.machine import State
from sdbox.bench.card_reader import Pcscd, running_pcscd
from sdbox.protocol.values import Container
from tests.service.agent_bench import AgentBench
from tests.service.card_agent import agent_at_reader, finger, issued_card
from tests.service.gateway_bench import Bench, running_bench, until

pytestmark = pytest.mark.root
FLAWS = {
    "expired": "certificate-expired",
    "not-yet-valid": "certificate-not-yet-valid",
    "foreign": "certificate-issuer",
    "wrong-usage": "certificate-usage",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("containers")) as bench:
        yield bench


@pytest.fixture(scope="module")
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def plan(size: int) -> tuple[list[str], list[str], dict[str, str | None]]:
    """Return the projects of a card with `size` containers, the emulator's options, and what the screen must say."""
    names = ["atlas", "boreal", *(f"p{index:02}" for index in range(18))][:size]
    said: dict[str, str | None] = dict.fromkeys(names, "project-no-bubble") | dict.fromkeys(names[:2])
    options: list[str] = []
    for flaw, flawed in zip(FLAWS, (names[2 + place :: 5] for place in range(len(FLAWS))), strict=True):
        options += [f"--{flaw}", ",".join(flawed)]
        said |= dict.fromkeys(flawed, FLAWS[flaw])
    random.Random(size).shuffle(names)
    return names, options, said


def newest(agent: AgentBench, project: str) -> str:
    """Return the serial number, in hex, of the newest certificate for `project` on the card."""
    seat = agent.agent._here.seat
    assert seat is not None
    found = [read(container) for container in seat.project_containers() if container.project == project]
    return f"{max(found, key=lambda one: one.not_valid_before_utc).serial_number:x}"


def read(container: Container) -> x509.Certificate:
    return x509.load_der_x509_certificate(container.certificate)


async def opened(bench: Bench, agent: AgentBench, project: str) -> str:
    """Enter a project; return the serial number of the certificate that opened it."""
    await agent.in_session(project)
    return [event for event in bench.gateway.events() if event["event"] == "opened"][-1]["certificate"]


@pytest.mark.parametrize("size", [1, 2, 5, 9, 20])
def test_each_container_is_shown_for_what_it_is(bench: Bench, pcscd: Pcscd, folder: Path, size: int) -> None:
    names, options, said = plan(size)
    with issued_card(bench, pcscd, folder, names, *options) as card:

        async def scene() -> None:
            async with agent_at_reader(bench, folder) as agent:
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.PICK)
                assert {offer.project: offer.reason for offer in agent.view.projects} == said
                assert [offer.project for offer in agent.view.projects] == sorted(names)
                for project in (name for name, reason in said.items() if reason is not None):
                    agent.agent.post(Pick(project))
                await asyncio.sleep(0.05)
                assert (agent.agent.state, bench.peers()) == (State.PICK, 0)
                assert await opened(bench, agent, "atlas") == newest(agent, "atlas")
                assert card.verifies == 1
                card.remove()
                await agent.until(State.INSERT_CARD)

        asyncio.run(scene())


def test_of_two_containers_for_one_project_the_newer_opens_and_both_are_shown(
    bench: Bench, pcscd: Pcscd, folder: Path
) -> None:
    with issued_card(bench, pcscd, folder, ("atlas", "boreal"), "--duplicate", "atlas") as card:

        async def scene() -> None:
            async with agent_at_reader(bench, folder) as agent:
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.PICK)
                rows = [(offer.project, offer.reason) for offer in agent.view.projects]
                assert rows == [("atlas", None), ("atlas", "container-duplicate"), ("boreal", None)]
                assert await opened(bench, agent, "atlas") == newest(agent, "atlas")

        asyncio.run(scene())


def test_a_certificate_revoked_in_its_session_ends_it_and_is_shown_closed(
    bench: Bench, pcscd: Pcscd, folder: Path
) -> None:
    with issued_card(bench, pcscd, folder, ("boreal", "atlas")) as card:

        async def scene() -> None:
            async with agent_at_reader(bench, folder) as agent:
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.PICK)
                serial = await opened(bench, agent, "atlas")
                done = await asyncio.to_thread(bench.gateway.command, "revoke", "--certificate", serial)
                assert done.returncode == 0, done.stderr
                await agent.until(State.REFUSED_PROJECT)
                assert agent.view.reason == "certificate-revoked"
                await until("the gateway to remove the peer", lambda: bench.peers() == 0)
                agent.agent.post(Acknowledge())
                await agent.until(State.PICK)
                closed = [("atlas", "certificate-revoked"), ("boreal", None)]
                assert [(offer.project, offer.reason) for offer in agent.view.projects] == closed
                card.remove()
                await agent.until(State.INSERT_CARD)
                card.insert()
                await finger(agent, card, State.PICK)
                assert [(offer.project, offer.reason) for offer in agent.view.projects] == closed
                await agent.in_session("boreal")

        asyncio.run(scene())
