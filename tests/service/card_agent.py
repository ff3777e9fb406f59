"""An agent with a real card reader: emulated cards through pcscd and OpenSC, issued by the bench's card CA."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.card import CardSeat
from sdbox.agent.cardclock import CardClock
from sdbox.agent.machine import State
from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_reader import Pcscd
from sdbox.smartcard.monitor import CardMonitor
from tests.service.agent_bench import AgentBench, Fittings, NoTunnel, running_agent
from tests.service.gateway_bench import Bench
from tests.service.gateway_site import pem


@contextmanager
def issued_card(
    bench: Bench, pcscd: Pcscd, folder: Path, projects: Sequence[str], *options: str, variant: str = "sc-hsm-bio"
) -> Iterator[EmulatedCard]:
    """Run a card whose certificates are from the bench's card CA."""
    authority, key = folder / "card-ca.pem", folder / "card-ca.key"
    authority.write_bytes(bench.site.cards.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(pem(bench.site.cards.key))
    issuer = ["--issuer", str(authority), "--issuer-key", str(key)]
    with emulated_card(pcscd, variant, projects, [*issuer, *options]) as card:
        yield card


@asynccontextmanager
async def agent_at_reader(
    bench: Bench, folder: Path, *, clock: CardClock | None = None, tunnel: NoTunnel | None = None
) -> AsyncIterator[AgentBench]:
    """Run an agent that follows the reader."""
    fittings = Fittings(lambda card: CardSeat(card, user=None), clock or CardClock())
    async with running_agent(bench, folder, lambda _: tunnel or NoTunnel(), fittings=fittings) as agent:
        with CardMonitor(agent.agent.post_from_thread):
            yield agent


async def finger(agent: AgentBench, card: EmulatedCard, *states: State, which: str = "good") -> State:
    """Wait until the card waits for a finger, put one down, and wait for one of `states`."""
    await agent.until(State.FINGER)
    await asyncio.to_thread(card.expect, "sensor wait")
    card.tell(f"touch {which}")
    return await agent.until(*states)


def signatures(card: EmulatedCard) -> int:
    return card.events.count("sign")
