"""The agent from attestation to the end of a session, against a real gateway, TPM and card worker."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.agent.events import Acknowledge, Cancel, Event, Pick, SwitchKey
from sdbox.agent.machine import State
from sdbox.agent.tunnel import Tunnel, Way
from sdbox.bench.softtoken import PIN
from sdbox.smartcard.values import CardRemoved
from tests.service.agent_bench import NoTunnel, alive, running_agent, token, wiped
from tests.service.gateway_bench import Bench, running_bench, until

pytestmark = pytest.mark.root


PHASES = ["network", "tls", "attested", "card-in", "verified", "offers"]
PHASES += 2 * ["picked", "grant", "handshake", "client-start", "desktop"] + ["closed", "wiped"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("agent")
    with running_bench(folder) as bench:
        yield bench


@pytest.fixture
def folder(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with token(bench, tmp_path / "token", "atlas", "boreal", "cassini"):
        yield tmp_path


def wipe_times(text: str) -> list[tuple[str, float, float]]:
    found = re.findall(r"wipe cause=(\S+) picture-gone-ms=([\d.]+) keys-wiped-ms=([\d.]+)", text)
    return [(cause, float(picture), float(keys)) for cause, picture, keys in found]


def test_two_desktops_one_after_the_other_and_nothing_after_removal(
    bench: Bench, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tunnel = NoTunnel()

    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: tunnel) as agent:
            await agent.verified()
            assert {offer.project: offer.reason for offer in agent.view.projects} == {
                "atlas": None, "boreal": None, "cassini": "project-no-bubble"
            }  # fmt: skip
            agent.agent.post(Pick("cassini"))
            await agent.in_session("atlas")
            assert bench.peers() == 1
            agent.agent.post(SwitchKey())
            await agent.until(State.PICKER)
            await agent.in_session("boreal")
            assert (bench.peers(), tunnel.most) == (1, 1)
            first, second = agent.clients()
            assert (alive(first), alive(second)) == (False, True)
            keys = [way.key for way in tunnel.open]
            agent.remove()
            await agent.until(State.INSERT_CARD)
            assert not alive(second)
            assert tunnel.open == []
            assert [wiped(key) for key in keys] == [True]
            assert agent.view.projects == ()
            await until("the gateway to remove the peer", lambda: bench.peers() == 0, 1.0)

    asyncio.run(scene())
    said = capsys.readouterr().out
    assert re.findall(r"sdbox-phase (\S+) ", said)[: len(PHASES)] == PHASES
    ((cause, picture, keys_wiped), *_) = wipe_times(said)
    assert cause == "card-removed"
    assert picture < 30
    assert keys_wiped < 100
    assert PIN not in said


def test_the_picture_goes_even_before_the_state_does(bench: Bench, folder: Path) -> None:
    """S6: handling a removal kills the client in the same step, whatever else is queued up."""

    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            (client,) = agent.clients()
            agent.agent.handle(CardRemoved(""), asyncio.get_running_loop().time())
            assert died_without_the_loop(client), "the kill was left to a later turn of the loop"
            await agent.until(State.INSERT_CARD)

    asyncio.run(scene())


def died_without_the_loop(pid: int, seconds: float = 2.0) -> bool:
    """Whether a process ends while the event loop stands still: what ended it was done before, in the same step."""
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.002)
    return not alive(pid)


def test_a_tunnel_that_cannot_come_up_is_refused_and_leaves_nothing(bench: Bench, folder: Path) -> None:
    """The real tunnel on a host that lacks the box's packet filter: it must fail, and only the session with it."""

    async def scene() -> None:
        async with running_agent(bench, folder, Tunnel) as agent:
            await agent.verified()
            agent.agent.post(Pick("atlas"))
            await agent.until(State.REFUSED_PROJECT)
            assert agent.view.reason == "tunnel-failed"
            await until("the gateway to remove the peer", lambda: bench.peers() == 0)
            assert agent.clients() == []
            agent.agent.post(Acknowledge())
            await agent.until(State.PICK)

    asyncio.run(scene())


def test_a_wrong_pin_is_one_try_and_the_next_waits_for_the_user(bench: Bench, folder: Path) -> None:
    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.until(State.INSERT_CARD)
            agent.insert()
            await agent.until(State.PIN)
            pin = bytearray(b"999999")
            agent.agent.submit_pin(pin)
            await agent.until(State.REFUSED_PIN)
            assert agent.view.reason == "card-pin"
            assert not any(pin)
            agent.agent.post(Acknowledge())
            await agent.until(State.PIN)
            agent.agent.submit_pin(bytearray(PIN.encode()))
            await agent.until(State.PICK)

    asyncio.run(scene())


def test_a_pin_nobody_asked_for_is_overwritten(bench: Bench, folder: Path) -> None:
    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.until(State.INSERT_CARD)
            pin = bytearray(b"123456")
            agent.agent.submit_pin(pin)
            await until("the PIN to be overwritten", lambda: not any(pin))
            assert agent.agent.state is State.INSERT_CARD

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("status", "state", "reason"), [(12, State.PICK, ""), (147, State.REFUSED_PROJECT, "desktop-failed")]
)
def test_a_desktop_that_ends(bench: Bench, folder: Path, status: int, state: State, reason: str) -> None:
    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            agent.end_client(status)
            await agent.until(state)
            assert agent.view.reason == reason
            await until("the gateway to remove the peer", lambda: bench.peers() == 0)

    asyncio.run(scene())


def test_a_revoked_session_ends(bench: Bench, folder: Path) -> None:
    async def scene() -> None:
        tunnel = NoTunnel()
        async with running_agent(bench, folder, lambda _: tunnel) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            session = agent.door.session
            assert session is not None
            done = await asyncio.to_thread(bench.gateway.command, "revoke", "--session", session)
            assert done.returncode == 0, done.stderr
            await agent.until(State.REFUSED_PROJECT)
            assert agent.view.reason == "session-revoked"
            assert tunnel.open == []
            assert not alive(agent.clients()[0])

    asyncio.run(scene())


def test_a_card_that_was_in_before_is_read_once_attested(bench: Bench, folder: Path) -> None:
    async def scene() -> None:
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            agent.insert()
            await agent.until(State.PIN)

    asyncio.run(scene())


def test_a_lost_link_ends_the_session_and_heals(bench: Bench, folder: Path) -> None:
    async def scene() -> None:
        tunnel = NoTunnel()
        async with running_agent(bench, folder, lambda _: tunnel) as agent:
            await agent.verified()
            await agent.in_session("atlas")
            link = agent.agent.parts.link
            assert link.channel is not None
            link.channel._stream.abort()
            await agent.until(State.ENDING, State.NETWORK, State.ATTESTING)
            await until("the client to end", lambda: not alive(agent.clients()[0]))
            await agent.until(State.INSERT_CARD)
            assert tunnel.open == []
            await asyncio.sleep(0.2)  # nothing may happen to the card that stayed in
            assert agent.agent.state is State.INSERT_CARD
            agent.agent.post(Acknowledge())
            await agent.until(State.PIN)

    asyncio.run(scene())


@pytest.mark.parametrize("event", [Cancel(), CardRemoved("")])
def test_leaving_on_the_way_in_leaves_nothing(bench: Bench, folder: Path, event: Event) -> None:
    """At many moments of the way in: the event comes 0 to 70 ms after the pick."""

    async def scene(delay: float) -> None:
        tunnel = NoTunnel()
        async with running_agent(bench, folder, lambda _: tunnel) as agent:
            await agent.verified()
            agent.agent.post(Pick("atlas"))
            await agent.until(State.CONNECTING)
            await asyncio.sleep(delay)
            agent.agent.post(event)
            ends = {State.PICK, State.SESSION} if isinstance(event, Cancel) else {State.INSERT_CARD}
            if await agent.until(*ends) is State.SESSION:
                return  # the desktop was there first
            await agent.agent.settled()
            assert tunnel.open == []
            await until("the gateway to remove the peer", lambda: bench.peers() == 0)
            assert not any(alive(pid) for pid in agent.clients())
            if isinstance(event, Cancel):
                await agent.in_session("boreal")  # the card's session goes on: who left may pick again

    for step in range(8):
        (folder / "clients").unlink(missing_ok=True)
        asyncio.run(scene(step * 0.01))


def test_a_box_that_is_not_enrolled_is_refused_and_heals(bench: Bench, folder: Path) -> None:
    async def scene() -> None:
        assert bench.gateway.command("forget", "--box-id", str(bench.box.box_id)).returncode == 0
        async with running_agent(bench, folder, lambda _: NoTunnel()) as agent:
            await agent.until(State.REFUSED_LINK)
            assert agent.view.reason == "box-unknown"
            agent.insert()
            await until("the card to be noticed", lambda: agent.agent._here.card is not None)
            assert agent.agent.state is State.REFUSED_LINK
            bench.gateway.enrol(bench.box)
            agent.agent.post(Acknowledge())
            await agent.until(State.PIN)

    asyncio.run(scene())


def test_an_exception_nobody_expected_ends_refused_with_nothing_left(
    bench: Bench, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S11: what a job did not foresee closes everything, and only a restart opens it again."""

    class Faulty(NoTunnel):
        async def up(self, way: Way) -> None:
            await super().up(way)
            raise ZeroDivisionError(way.grant.preshared)

    async def scene() -> None:
        tunnel = Faulty()
        async with running_agent(bench, folder, lambda _: tunnel) as agent:
            await agent.verified()
            agent.agent.post(Pick("atlas"))
            await agent.until(State.FAILED)
            assert (agent.view.state, agent.view.reason, agent.view.projects) == ("refused", "internal", ())
            await agent.agent.settled()
            assert tunnel.open == []
            await until("the gateway to remove the peer", lambda: bench.peers() == 0)
            agent.agent.post(Acknowledge())
            agent.agent.post(CardRemoved(""))
            await asyncio.sleep(0.05)
            assert agent.agent.state is State.FAILED

    asyncio.run(scene())
    said = capsys.readouterr().out
    assert re.search(r"sdbox-note broken: ZeroDivisionError in test_agent_way\.py:\d+\n", said)
    assert "sdbox-refused internal" in said
