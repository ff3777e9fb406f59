"""The whole agent but the box around it: real gateway, TPM, card worker (SoftHSM), network namespace.

This kind of host has no kernel WireGuard, so a bench may be told to use `NoTunnel`, which only keeps count; the real
tunnel is driven in the system tests. The RDP client is a fake executable in PATH.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.attest import CentreLink, TpmProver
from sdbox.agent.card import TOKEN_READER, CardSeat
from sdbox.agent.cardclock import CardClock
from sdbox.agent.config import GatewaySite
from sdbox.agent.control import Agent
from sdbox.agent.dbus import AgentInterface, Identity, Inputs
from sdbox.agent.desktop import DesktopSession, Place
from sdbox.agent.events import Pick, Started
from sdbox.agent.keys import TunnelKey
from sdbox.agent.machine import State
from sdbox.agent.namespace import Namespace
from sdbox.agent.parts import Parts
from sdbox.agent.renewal import Renewals
from sdbox.agent.session import Door, TunnelEnd
from sdbox.agent.tunnel import Way
from sdbox.agent.view import View
from sdbox.bench.softtoken import PIN
from sdbox.protocol.values import DesktopAccess
from sdbox.smartcard.values import CardInserted, CardRemoved
from sdbox.smartcard.virtual.personalise import FilledContainer
from tests.service.gateway_bench import Bench
from tests.service.gateway_site import NAME
from tests.service.smartcard_bench import make_softhsm_token

CLIENT = """#!/usr/bin/python3 -S
import os, sys, time
lines = os.fdopen(int(sys.argv[1].rpartition(":")[2])).read().splitlines()
open({log!r}, "a").write(f"{{os.getpid()}} {{lines[0]}}\\n")
print("[INFO][com.freerdp.gdi] - [gdi_init_ex]: Local framebuffer format")
while not os.path.exists({end!r}):
    time.sleep(0.02)
sys.exit(int(open({end!r}).read()))
"""


@dataclass
class NoTunnel:
    """Stands in for WireGuard. `most` is how many were up at once."""

    open: list[Way] = field(default_factory=list)
    most: int = 0

    async def up(self, way: Way) -> None:
        self.open.append(way)
        self.most = max(self.most, len(self.open))

    async def silence(self) -> None:
        for way in self.open:
            way.key.wipe()

    async def down(self) -> None:
        while self.open:
            self.open.pop().key.wipe()

    async def tidy(self) -> None:
        """Nothing: there are no packet filters here."""


@contextmanager
def token(bench: Bench, folder: Path, *projects: str, pin: str = PIN, days: float = 0.5) -> Iterator[None]:
    """Make a SoftHSM token with a container for each project, and let the card worker find it.

    `days` as in `Authority.project`: below 0 the certificates are past half of their life.
    """
    filled = []
    for project in projects:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = bench.site.cards.project(key.public_key(), project, days=days)
        filled.append(FilledContainer(project, key, certificate.public_bytes(Encoding.DER)))
    folder.mkdir()
    make_softhsm_token(folder, filled, pin)
    try:
        yield
    finally:
        del os.environ["SOFTHSM2_CONF"]


class AgentBench:
    """A running agent. `views` is all the screen was told, in order."""

    def __init__(self, agent: Agent, door: Door, clients: Path, renewals: Renewals) -> None:
        self.agent, self.door, self._clients, self.renewals = agent, door, clients, renewals

    @property
    def view(self) -> View:
        return self.agent.parts.screen._view

    async def until(self, *states: State, seconds: float = 20.0) -> State:
        """Wait for one of `states`."""
        try:
            async with asyncio.timeout(seconds):
                while self.agent.state not in states:  # noqa: ASYNC110 - looks at the state, asks nothing of it
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"waited for {states}, is {self.agent.state}: {self.view}") from None
        return self.agent.state

    async def verified(self, pin: str = PIN) -> None:
        """Go from the start to the picker."""
        await self.until(State.INSERT_CARD)
        self.insert()
        await self.until(State.PIN)
        self.agent.submit_pin(bytearray(pin.encode()))
        await self.until(State.PICK)

    async def in_session(self, project: str) -> None:
        """Pick a project and wait for its desktop."""
        self.agent.post(Pick(project))
        await self.until(State.SESSION)
        assert self.view.current == project

    def insert(self) -> None:
        self.agent.post(CardInserted(TOKEN_READER, b""))

    def remove(self) -> None:
        self.agent.post_from_thread(CardRemoved(TOKEN_READER))

    def clients(self) -> list[int]:
        """Return the process numbers of all RDP clients there ever were."""
        return [int(line.split()[0]) for line in self._clients.read_text().splitlines()]

    def end_client(self, status: int) -> None:
        """Let the client that runs end by itself."""
        partial = self._clients.with_name("end.part")
        partial.write_text(str(status))
        partial.rename(self._clients.with_name("end"))


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # reaped, the second while it was being read
        return False


def wiped(key: TunnelKey) -> bool:
    try:
        key.private()
    except ValueError:
        return True
    return False


def make_client(folder: Path) -> Path:
    """Put the fake RDP client into `folder`, usable by its user; returns the file that it writes its numbers to."""
    clients = folder / "clients"
    clients.touch()
    clients.chmod(0o666)
    for place in (folder, *folder.parents[:3]):
        place.chmod(place.stat().st_mode | 0o011)
    (folder / "xfreerdp3").write_text(CLIENT.format(log=str(clients), end=str(folder / "end")))
    (folder / "xfreerdp3").chmod(0o755)
    return clients


@dataclass(frozen=True)
class Fittings:
    """What an agent may be given instead: cards in a reader for the token, a clock that the test turns."""

    seat: Callable[[CardInserted], CardSeat] = lambda card: CardSeat(card, user=None, token="softhsm")
    clock: CardClock = field(default_factory=CardClock)


@asynccontextmanager
async def running_agent(
    bench: Bench,
    folder: Path,
    tunnel: Callable[[Namespace], TunnelEnd],
    *,
    told: Callable[[DesktopAccess], None] = lambda _: None,
    fittings: Fittings | None = None,
) -> AsyncIterator[AgentBench]:
    """Run an agent whose token counts as inserted when `insert` is called; `told` gets each desktop's credential."""
    fit = fittings or Fittings()
    clients = make_client(folder)
    with Namespace() as namespace:

        async def start(access: DesktopAccess) -> DesktopSession:
            told(access)
            return await DesktopSession.start(access, Place(namespace, ":9", "nobody", str(folder)))

        renewals = Renewals()
        door = Door(tunnel(namespace), start, renewals.consider)
        prover = TpmProver(bench.box.box_id, tcti=bench.box.tcti, event_log=bench.box.event_log)
        site = GatewaySite((bench.gateway.endpoint,), NAME, str(bench.site.ca_file))

        def wire(agent: Agent) -> Parts:
            screen = AgentInterface(Identity("box", "1"), Inputs(agent.post, agent.submit_pin, lambda: None))
            link = CentreLink(site, bench.box.box_id, prover, agent.post)
            return Parts(screen, link, door, fit.seat, fit.clock)

        agent = Agent(wire)
        tasks = [asyncio.ensure_future(agent.run()), asyncio.ensure_future(agent.parts.link.run())]
        agent.post(Started())
        try:
            yield AgentBench(agent, door, clients, renewals)
        finally:
            await agent.stop()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await prover.close()
