"""An emulated card over unmodified OpenSC, pulled after each single command that writes to it: never without a
working certificate, and with exactly one in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.card import CardSeat
from sdbox.agent.channel.channel import Channel
from sdbox.agent.events import Verified
from sdbox.agent.renewal import Renewals, is_due
from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd
from sdbox.bench.card_stack import Stack
from sdbox.protocol.values import Container
from sdbox.smartcard.card_process import Runner
from sdbox.smartcard.values import CardInserted
from sdbox.smartcard.variants import Renewal, variant_named
from tests.service.gateway_bench import Bench, running_bench
from tests.service.gateway_site import Gateway, pem, running_gateway
from tests.service.renewal_bench import ISSUING
from tests.service.smartcard_cases import cases

pytestmark = pytest.mark.root
MOST_WRITES = 28  # the box has OpenSC send shorter pieces, of a certificate above all


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(bench: Bench) -> Iterator[Gateway]:
    with running_gateway(bench.site, **ISSUING | {"issuing.own.life_days": 365}) as running:
        yield running


class OneProject(CardSeat):
    """A seat that shows the renewal one project at a time; the gateway is always shown the whole card."""

    only = ""

    def project_containers(self) -> tuple[Container, ...]:
        return tuple(one for one in super().project_containers() if self.only in ("", one.project))


class Table:
    """A card reader, a card, and the gateway it talks to."""

    def __init__(self, bench: Bench, gateway: Gateway, card: EmulatedCard, stack: Stack, variant: str) -> None:
        self.bench, self.gateway, self.card, self.stack = bench, gateway, card, stack
        self.atr = bytes.fromhex(variant_named(variant).atrs[0].value)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[tuple[Channel, OneProject]]:
        """Insert the card, put the finger on, show it to the gateway; pull it at the end."""
        await asyncio.to_thread(self.card.insert)
        await asyncio.to_thread(self.stack.wait_for_card, READER)
        seat = OneProject(CardInserted(READER, self.atr), user=None)
        seat._runner = Runner(None, self.stack.python)
        try:
            await seat.read()
            self.card.tell("auto good")
            assert isinstance(await seat.login(None, last_try=False), Verified)
            async with self.bench.attested(self.gateway) as channel:
                certificates = tuple(one.certificate for one in seat.project_containers())
                await channel.prove_card(certificates, seat.card_signer())
                yield channel, seat
        finally:
            seat.kill()
            await asyncio.to_thread(self.card.remove)
            await seat.close()

    async def renew(self, channel: Channel, seat: OneProject, project: str, *, cut: int | None = None) -> bool:
        """Do what is to be done for one project; with `cut` the card goes mute after so many writes. True if it did."""
        seat.only = project
        self.card.events.clear()
        if cut is not None:
            self.card.tell(f"cut {cut}")
        renewals = Renewals()
        renewals.consider(channel, seat)
        ended = asyncio.ensure_future(renewals.settled())
        while not ended.done() and "cut" not in self.card.events:
            await asyncio.wait([ended], timeout=0.02)
        torn = "cut" in self.card.events
        self.card.tell("cut off")
        if torn:
            seat.kill()  # what the agent does when its card is pulled
        async with asyncio.timeout(20):
            await ended
        return torn

    async def works(self, channel: Channel, seat: OneProject, project: str) -> None:
        """The project can be entered with what is on the card, as far as the card and the gateway go."""
        seat.only = ""
        certificates = tuple(one.certificate for one in seat.project_containers())
        usable = []
        for container in (one for one in seat.project_containers() if one.project == project):
            offers = await channel.prove_card(certificates, seat.signer(container.fingerprint))
            (verdict,) = [offer.reason for offer in offers if offer.certificate == container.fingerprint]
            if verdict == "project-no-bubble":  # sound, and no bubble is needed here
                usable.append(container)
        assert usable, f"{project} is lost: {[one.key_id for one in seat.project_containers()]}"


@pytest.fixture(params=[one for one in cases() if variant_named(one[0]).renewal is not Renewal.NONE], ids="-".join)
def table(request: pytest.FixtureRequest, bench: Bench, gateway: Gateway, tmp_path: Path) -> Iterator[Table]:
    variant, stack = request.param[0], stack_named(request.param[1])
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    certificate.write_bytes(bench.site.cards.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(pem(bench.site.cards.key))
    projects = [f"p{number:02}" for number in range(MOST_WRITES)]
    options = ["--issuer", str(certificate), "--issuer-key", str(key), "--late", ",".join(projects)]
    pcscd: Pcscd
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, variant, projects, options) as card:
        yield Table(bench, gateway, card, stack, variant)


async def tear_each_write(table: Table, projects: list[str]) -> list[str]:
    """Pull the card after 0, 1, 2... writes, at another project each time; then go on with the one that was torn.

    Returns the projects that were torn; the first that was not ends it.
    """
    torn: list[str] = []
    for writes, project in enumerate(projects):
        async with table.session() as (channel, seat):
            for before in torn[-1:]:
                await table.works(channel, seat, before)
                assert not await table.renew(channel, seat, before)
            if not await table.renew(channel, seat, project, cut=writes):
                return torn
            torn.append(project)
    raise AssertionError("more writes than projects")


def test_pulled_after_each_write(table: Table) -> None:
    async def scene() -> None:
        projects = [f"p{number:02}" for number in range(MOST_WRITES)]
        begun = await tear_each_write(table, projects)
        assert len(begun) > 8, "key, description, certificate: several commands each"
        removed = await tear_each_write(table, begun)
        assert len(removed) > 2, "key, description and certificate of the old container"
        async with table.session() as (channel, seat):
            for project in begun:
                await table.renew(channel, seat, project)
        async with table.session() as (channel, seat):
            for project in begun:
                await table.works(channel, seat, project)
                left = [one for one in seat.project_containers() if one.project == project]
                assert len(left) == 1, f"{project}: {[one.key_id for one in left]}"
                assert not is_due(left[0], datetime.now(UTC))

    asyncio.run(scene())
