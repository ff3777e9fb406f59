"""The whole way over a real channel with a real TPM: attest, show the card, open, switch, close; and what time does."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest
from Cryptodome.Hash import MD4
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from sdbox.agent.channel.parties import Lost, Renewed, Revoked
from sdbox.gateway.ear import key_id
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import Evidence
from tests.service.gateway_bench import Bench, card, container, running_bench, serial, until
from tests.service.gateway_box import Box
from tests.service.gateway_site import Gateway, running_gateway


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def test_the_way_from_hello_to_grant_switch_and_close(bench: Bench) -> None:
    async def way() -> None:
        atlas, boreal, cassini = (bench.container(project) for project in ("atlas", "boreal", "cassini"))
        async with bench.attested() as channel:
            offers = await channel.prove_card(card(atlas, boreal, cassini), boreal)
            assert [(offer.project, offer.reason) for offer in offers] == [
                ("atlas", None),
                ("boreal", None),
                ("cassini", "project-no-bubble"),
            ]
            assert offers[0].title_fr == "Projet atlas"
            key = os.urandom(32)
            grant = await channel.open("atlas", key, atlas)
            peer = bench.tunnels["atlas"][key.hex()]
            assert peer["preshared_key"] == grant.tunnel.preshared.hex()
            assert peer["allowed_ip"] == grant.tunnel.address
            digest = MD4.new(grant.desktop.secret.encode("utf-16-le")).hexdigest()  # noqa: S303 - what NLA uses
            assert bench.logins("atlas") == [f"{grant.desktop.user}:::{digest}:::"]
            await channel.heartbeat(grant.session)
            kept = bench.gateway.log.read_bytes() + bench.site.folder.joinpath("gateway.sqlite").read_bytes()
            assert grant.session.encode() in kept
            assert grant.desktop.secret.encode() not in kept
            assert grant.tunnel.preshared.hex().encode() not in kept
            second_key = os.urandom(32)
            second = await channel.open("boreal", second_key, boreal)
            assert set(bench.tunnels["boreal"]) == {second_key.hex()}
            assert (bench.tunnels["atlas"], bench.logins("atlas")) == ({}, [])
            assert second.tunnel.preshared != grant.tunnel.preshared
            with pytest.raises(Refusal) as caught:
                await channel.heartbeat(grant.session)
            assert caught.value.reason is Reason.SESSION_REVOKED
            await channel.close_session(second.session, "card-removed")
            assert (bench.peers(), bench.logins("boreal")) == (0, [])

    asyncio.run(way())


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_each_kind_of_key_opens(bench: Bench, kind: str) -> None:
    keys: dict[str, Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]] = {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }

    async def way() -> None:
        signer = container(bench.site.cards, "atlas", key=keys[kind]())
        async with bench.attested() as channel:
            await channel.prove_card(card(signer), signer)
            assert (await channel.open("atlas", os.urandom(32), signer)).project == "atlas"

    asyncio.run(way())


def test_the_result_is_a_signed_ear_for_this_box_and_channel(bench: Bench) -> None:
    async def way() -> str:
        channel = await bench.gateway.connect()
        result = await channel.attest(bench.box.box_id, bench.box)
        await channel.close()
        assert result.seconds == 300
        return result.ear

    ear = asyncio.run(way())
    key = load_pem_private_key(bench.gateway.config.with_name("ear.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    claims = jwt.decode(ear, key.public_key(), algorithms=["ES256"])
    assert jwt.get_unverified_header(ear)["kid"] == key_id(key.public_key())
    box = claims["submods"]["box"]
    assert box["sdbox.box-id"] == str(bench.box.box_id)
    assert claims["exp"] - claims["iat"] == 300
    assert box["ear.status"] == "affirming"


def test_a_lost_connection_ends_the_session_within_a_second(bench: Bench) -> None:
    async def way() -> None:
        async with bench.opened() as (channel, _, _signer):
            assert bench.peers() == 1
            channel._stream.abort()
            assert await until("the peer to go", lambda: bench.peers() == 0) < 1.0

    asyncio.run(way())


def test_a_cancelled_open_is_given_back(bench: Bench) -> None:
    async def way() -> None:
        signer = bench.container("atlas")
        async with bench.attested() as channel:
            await channel.prove_card(card(signer), signer)
            before = len(opened(bench))
            task = asyncio.create_task(channel.open("atlas", os.urandom(32), signer))
            async with asyncio.timeout(5):  # every turn of the loop is looked at: the answer may come within the next
                while channel._link._answer is None:  # noqa: ASYNC110 - there is no event for it, and a pause misses it
                    await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until("the gateway to open it", lambda: len(opened(bench)) > before)
            await until("the grant to be given back", lambda: bench.peers() == 0)
            grant = await channel.open("atlas", os.urandom(32), signer)  # and the channel still works
            assert grant.project == "atlas"

    asyncio.run(way())


def opened(bench: Bench) -> list[dict[str, str]]:
    return [event for event in bench.gateway.events() if event["event"] == "opened"]


def test_the_lease_ends_a_silent_session_and_heartbeats_keep_it(bench: Bench) -> None:
    async def way(gateway: Gateway) -> None:
        async with bench.opened(gateway) as (channel, grant, _signer):
            assert grant.lease == 1
            for _ in range(5):
                await asyncio.sleep(0.3)  # the time that a lease is measured in
                await channel.heartbeat(grant.session)
            assert bench.peers() == 1
            waited = await until("the lease to end", lambda: bench.peers() == 0)
            assert 0.5 < waited < 2.0
            event = await anext(channel.events())
            assert event == Revoked(grant.session, Reason.SESSION_REVOKED)

    with running_gateway(bench.site, lease_seconds=1) as gateway:
        asyncio.run(way(gateway))


def test_the_box_is_attested_again_in_time(bench: Bench) -> None:
    async def way(gateway: Gateway) -> None:
        async with bench.opened(gateway) as (channel, grant, signer):
            events = channel.events()
            async with asyncio.timeout(10):
                assert isinstance(await anext(events), Renewed)
                assert isinstance(await anext(events), Renewed)
            await channel.heartbeat(grant.session)
            assert (await channel.open("atlas", os.urandom(32), signer)).project == "atlas"

    with running_gateway(bench.site, result_seconds=1.5) as gateway:
        asyncio.run(way(gateway))


def test_a_result_that_lapses_ends_the_session(bench: Bench) -> None:
    async def way(gateway: Gateway) -> None:
        async with bench.opened(gateway) as (channel, _grant, _signer):
            channel._prover = Sleeper(bench.box)
            async with asyncio.timeout(10):
                assert await anext(channel.events()) == Lost(Reason.RESULT_LAPSED)
            assert bench.peers() == 0

    with running_gateway(bench.site, result_seconds=1) as gateway:
        asyncio.run(way(gateway))


class Sleeper:
    """A prover that never comes back."""

    def __init__(self, box: Box) -> None:
        self.ak_name, self.activate = box.ak_name, box.activate

    async def evidence(self, *_: object) -> Evidence:
        never: asyncio.Future[Evidence] = asyncio.get_running_loop().create_future()
        return await never


@pytest.mark.parametrize("what", ["certificate", "crl", "session", "box"])
def test_a_revocation_ends_the_session(bench: Bench, tmp_path: Path, what: str) -> None:
    async def way() -> None:
        async with bench.opened() as (channel, grant, signer):
            crl = tmp_path / "crl.pem"
            crl.write_bytes(bench.site.cards.crl(int(serial(signer), 16)).public_bytes(Encoding.PEM))
            values = {"certificate": serial(signer), "session": grant.session, "box": str(bench.box.box_id)}
            value = str(crl) if what == "crl" else values[what]
            done = await asyncio.to_thread(bench.gateway.command, "revoke", f"--{what}", value)
            assert done.returncode == 0, done.stderr
            async with asyncio.timeout(5):
                event = await anext(channel.events())
            assert bench.peers() == 0
            expected = {
                "crl": Revoked(grant.session, Reason.CERTIFICATE_REVOKED),
                "certificate": Revoked(grant.session, Reason.CERTIFICATE_REVOKED),
                "session": Revoked(grant.session, Reason.SESSION_REVOKED),
                "box": Lost(Reason.SESSION_REVOKED),
            }
            assert event == expected[what]
            if what in {"certificate", "crl"}:
                with pytest.raises(Refusal) as caught:
                    await channel.open("atlas", os.urandom(32), signer)
                assert caught.value.reason is Reason.CERTIFICATE_REVOKED
        if what == "box":
            with pytest.raises(Refusal) as refused:
                async with bench.attested():
                    pass
            assert refused.value.reason is Reason.SESSION_REVOKED

    asyncio.run(way())


def test_the_record_is_whole_and_has_no_secret(bench: Bench) -> None:
    """Runs last on purpose: it reads what all tests above left in the record."""
    done = bench.gateway.command("audit")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert {"enrolled", "attested", "card", "opened", "ended"} <= {line["event"] for line in lines}
    known = {"number", "digest", "time", "event", "box", "address", "session", "project", "certificate", "cause"}
    known |= {"reason", "detail", "offers", "kind", "value", "trouble"}
    assert set().union(*lines) <= known
