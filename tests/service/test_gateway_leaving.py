"""What cannot be removed when a session ends is tried again, and its bubble stays shut until it is gone (S5, S6)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator

import pytest

from sdbox.agent.channel.channel import Channel
from sdbox.protocol.reasons import Reason, Refusal
from tests.service.gateway_bench import Bench, SoftSigner, card, running_bench, until


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


async def refused(channel: Channel, project: str, signer: SoftSigner) -> Reason:
    with pytest.raises(Refusal) as caught:
        await channel.open(project, os.urandom(32), signer)
    return caught.value.reason


def cleared(bench: Bench) -> int:
    return sum(event["event"] == "cleared" for event in bench.gateway.events())


def test_a_peer_that_clings_keeps_its_bubble_shut_until_it_is_gone(bench: Bench) -> None:
    async def way() -> None:
        atlas, boreal = bench.container("atlas"), bench.container("boreal")
        async with bench.attested() as channel:
            await channel.prove_card(card(atlas, boreal), atlas)
            grant = await channel.open("atlas", os.urandom(32), atlas)
            bench.tunnels["atlas"].clings = True
            await channel.close_session(grant.session, "user")
            assert bench.gateway.events()[-1]["trouble"].startswith("peer: ")
            assert await refused(channel, "atlas", atlas) is Reason.PROJECT_CLOSING
            assert await refused(channel, "boreal", boreal) is Reason.PROJECT_CLOSING  # never two at once
            async with bench.attested() as other:
                await other.prove_card(card(atlas, boreal), atlas)
                assert await refused(other, "atlas", atlas) is Reason.PROJECT_CLOSING
                await other.open("boreal", os.urandom(32), boreal)
            assert len(bench.tunnels["atlas"]) == 1
            bench.tunnels["atlas"].clings = False
            await until("the peer to go", lambda: not bench.tunnels["atlas"])
            await until("the record to say so", lambda: cleared(bench) == 1)
            await channel.open("atlas", os.urandom(32), atlas)

    try:
        asyncio.run(way())
    finally:
        bench.tunnels["atlas"].clings = False


def test_a_login_that_cannot_be_removed_is_removed_later(bench: Bench) -> None:
    async def way() -> None:
        async with bench.opened() as (channel, grant, signer):
            before = cleared(bench)
            logins = bench.site.sam_file("atlas")
            kept = logins.rename(logins.with_suffix(".kept"))
            logins.mkdir()
            await channel.close_session(grant.session, "user")
            assert await refused(channel, "atlas", signer) is Reason.PROJECT_CLOSING
            logins.rmdir()
            kept.rename(logins)
            await until("the login to go", lambda: bench.logins("atlas") == [])
            await until("the record to say so", lambda: cleared(bench) > before)
            await channel.open("atlas", os.urandom(32), signer)

    asyncio.run(way())


def test_a_record_that_cannot_be_written_keeps_no_connection_open(bench: Bench) -> None:
    async def way() -> None:
        async with bench.opened() as (channel, _grant, _signer):
            database = sqlite3.connect(bench.site.folder / "gateway.sqlite", timeout=30, isolation_level=None)
            database.execute("ALTER TABLE record RENAME TO away")
            try:
                await channel._stream.write(bytes(4))  # no message: the gateway ends the conversation
                async with asyncio.timeout(5):
                    async for _ in channel.events():
                        pass
            finally:
                database.execute("ALTER TABLE away RENAME TO record")
                database.close()
            await until("the peer to go", lambda: bench.peers() == 0)

    asyncio.run(way())
