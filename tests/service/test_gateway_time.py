"""What time demands of a conversation comes about, whatever the box and the database do meanwhile (S2, S11)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sdbox.agent.channel.parties import Lost
from sdbox.gateway.conversation import COSTLY_BURST
from sdbox.protocol import messages as m
from sdbox.protocol.reasons import Reason
from sdbox.protocol.states import ChannelState
from tests.service.gateway_bench import Bench, running_bench, until
from tests.service.gateway_site import Gateway, running_gateway
from tests.service.test_gateway_states import Raw

GARBAGE = m.CardProof((), b"")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def codes(heard: list[m.Message]) -> list[str]:
    return [message.code for message in heard if isinstance(message, m.Refused)]


def test_a_box_that_always_has_one_more_to_say_lapses_in_time(bench: Bench) -> None:
    async def way(gateway: Gateway) -> list[str]:
        raw = await Raw.connect(bench, gateway.endpoint)
        await raw.reach(ChannelState.ATTESTED)
        for _ in range(COSTLY_BURST):
            await raw.say(GARBAGE)
        return codes(await raw.ended())

    with running_gateway(bench.site, result_seconds=0.1) as gateway:
        heard = asyncio.run(way(gateway))
    assert heard[-1] == "result-lapsed"
    assert len(heard) < COSTLY_BURST


def test_more_card_proofs_than_a_person_makes_end_the_connection(bench: Bench) -> None:
    async def way() -> list[str]:
        raw = await Raw.connect(bench)
        await raw.reach(ChannelState.ATTESTED)
        for _ in range(COSTLY_BURST + 50):
            await raw.say(GARBAGE)
        return codes(await raw.ended())

    *before, last = asyncio.run(way())
    assert set(before) == {"card-proof"}
    assert last == "too-many-requests"
    assert COSTLY_BURST <= len(before) < COSTLY_BURST + 50


@contextmanager
def without(bench: Bench, away: str, back: str) -> Iterator[sqlite3.Connection]:
    """Have a part of the database `away` and then `back`: whoever asks for it meanwhile gets an OperationalError."""
    database = sqlite3.connect(bench.site.folder / "gateway.sqlite", timeout=30, isolation_level=None)
    database.execute(away)
    try:
        yield database
    finally:
        database.execute(back)
        database.close()


def reported(bench: Bench) -> int:
    return sum("OperationalError" in event.get("detail", "") for event in bench.gateway.events())


def test_a_revocation_that_cannot_be_looked_up_ends_the_session(bench: Bench) -> None:
    async def way() -> None:
        async with bench.opened() as (channel, _grant, _signer):
            assert bench.peers() == 1
            away = "ALTER TABLE revocations RENAME COLUMN value TO away"
            back = "ALTER TABLE revocations RENAME COLUMN away TO value"
            with without(bench, away, back) as database:
                database.execute("INSERT INTO revocations (kind, away) VALUES ('certificate', '1234')")
                async with asyncio.timeout(5):
                    assert await anext(channel.events()) == Lost(Reason.GATEWAY_UNREACHABLE)
                await until("the session to end", lambda: bench.peers() == 0)
        async with bench.opened():
            assert bench.peers() == 1

    asyncio.run(way())


def test_a_database_that_does_not_answer_ends_no_gateway(bench: Bench) -> None:
    async def way() -> None:
        before = reported(bench)
        away, back = "ALTER TABLE revocations RENAME TO away", "ALTER TABLE away RENAME TO revocations"
        with without(bench, away, back):
            await until("the error to be told", lambda: reported(bench) > before)
        async with bench.opened() as (_channel, grant, _signer):
            done = await asyncio.to_thread(bench.gateway.command, "revoke", "--session", grant.session)
            assert done.returncode == 0, done.stderr
            await until("the session to end", lambda: bench.peers() == 0)
        assert bench.gateway.process.poll() is None

    asyncio.run(way())
