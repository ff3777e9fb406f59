"""Renewing a container's certificate at a real gateway: what it signs, what it refuses, and which one counts when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sdbox.protocol.reasons import Reason, Refusal
from tests.service.gateway_bench import Bench, SoftSigner, card, container, running_bench, serial
from tests.service.gateway_site import Gateway, running_gateway
from tests.service.renewal_bench import ISSUING, Renewed, leaf


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(bench: Bench) -> Iterator[Gateway]:
    with running_gateway(bench.site, **ISSUING) as running:
        yield running


def due(bench: Bench) -> SoftSigner:
    return container(bench.site.cards, "atlas", days=-0.5)


def test_a_renewal_beside_a_session(bench: Bench, gateway: Gateway) -> None:
    async def way() -> None:
        old = due(bench)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            grant = await channel.open("atlas", os.urandom(32), old)
            new = await Renewed(old).ask(channel)
            assert leaf(new).public_key() == new.key.public_key()
            assert leaf(new).not_valid_after_utc > leaf(old).not_valid_after_utc
            assert (await channel.open("atlas", os.urandom(32), old)).session != grant.session  # still the old one's
            await channel.confirm_renewal("atlas", new)
            with pytest.raises(Refusal) as refused:
                await channel.open("atlas", os.urandom(32), old)
            assert refused.value.reason is Reason.PROJECT_NOT_ON_CARD
            last = await channel.open("atlas", os.urandom(32), new)
            await channel.heartbeat(last.session)
        async with bench.attested(gateway) as channel:
            (offer,) = await channel.prove_card(card(old), old)
            assert offer.reason == "certificate-superseded"
            offers = await channel.prove_card(card(new, old), new)
            assert [offer.reason for offer in offers] == [None, "certificate-superseded"]
        lines = {line["event"]: line for line in gateway.events() if line["event"].startswith("renewal")}
        assert lines["renewal-issued"]["certificate"] == serial(old)
        assert lines["renewal-issued"]["new"] == serial(new) == lines["renewal-confirmed"]["certificate"]

    asyncio.run(way())


def test_a_session_is_not_ended_by_the_renewal(bench: Bench, gateway: Gateway) -> None:
    async def way() -> None:
        old = due(bench)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            grant = await channel.open("atlas", os.urandom(32), old)
            await Renewed(old).all_of_it(channel)
            for _ in range(8):  # the gateway looks at revocations each second
                await channel.heartbeat(grant.session)
                await asyncio.sleep(0.2)
            assert bench.peers() == 1

    asyncio.run(way())


def test_a_torn_renewal_goes_on(bench: Bench, gateway: Gateway) -> None:
    """Pulled before the certificate was written: it comes again. Pulled before it was confirmed: the new one opens."""

    async def way() -> None:
        old = due(bench)
        renewed = Renewed(old)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            first = await renewed.ask(channel)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            assert (await renewed.ask(channel)).chain == first.chain
        async with bench.attested(gateway) as channel:
            (offer,) = await channel.prove_card(card(old), old)  # the other was not written after all
            assert offer.reason is None
            await channel.open("atlas", os.urandom(32), old)
            offers = await channel.prove_card(card(old, first), old)
            assert [offer.reason for offer in offers] == ["container-duplicate", None]
            await channel.open("atlas", os.urandom(32), first)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old, first), first)
            await channel.confirm_renewal("atlas", first)
            await channel.confirm_renewal("atlas", first)  # the answer was lost with the card
            await channel.open("atlas", os.urandom(32), first)

    asyncio.run(way())


def test_a_new_key_replaces_one_that_never_signed(bench: Bench, gateway: Gateway) -> None:
    async def way() -> None:
        old = due(bench)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            lost = await Renewed(old).ask(channel)
            kept = await Renewed(old).ask(channel)
            with pytest.raises(Refusal) as refused:
                await channel.confirm_renewal("atlas", lost)
            assert refused.value.reason is Reason.CERTIFICATE_REVOKED
            await channel.confirm_renewal("atlas", kept)
            with pytest.raises(Refusal):
                await Renewed(old).ask(channel)

    asyncio.run(way())


def test_no_end_of_certificates_for_one(bench: Bench, gateway: Gateway) -> None:
    async def way() -> None:
        old = due(bench)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            for _ in range(5):
                last = await Renewed(old).ask(channel)
            with pytest.raises(Refusal) as refused:
                await Renewed(old).ask(channel)
            assert refused.value.reason is Reason.RENEWAL_REFUSED
            await channel.confirm_renewal("atlas", last)

    asyncio.run(way())


def reason_of(bench: Bench, gateway: Gateway, renewed: Renewed, request: bytes | None = None) -> Reason:
    async def way() -> Reason:
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(renewed.old), renewed.old)
            with pytest.raises(Refusal) as refused:
                await renewed.ask(channel, request)
            assert await channel.prove_card(card(renewed.old), renewed.old)  # the channel lives on
            return refused.value.reason

    return asyncio.run(way())


@pytest.mark.parametrize("what", ["subject", "project", "two", "extension", "signature", "bytes", "kind", "curve"])
def test_what_is_not_signed(bench: Bench, gateway: Gateway, what: str) -> None:
    renewed = Renewed(due(bench))
    if what == "kind":
        renewed.key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short on purpose
    if what == "curve":
        renewed.key = ec.generate_private_key(ec.SECP521R1())
    good = renewed.request()
    request = {
        "subject": renewed.request(subject="somebody else"),
        "project": renewed.request(names=("boreal",)),
        "two": renewed.request(names=("atlas", "boreal")),
        "extension": renewed.request(extra=True),
        "signature": good[:-1] + bytes([good[-1] ^ 1]),
        "bytes": os.urandom(200),
    }.get(what, good)
    assert reason_of(bench, gateway, renewed, request) is Reason.RENEWAL_REFUSED


def test_not_before_half_of_the_life(bench: Bench, gateway: Gateway) -> None:
    young = container(bench.site.cards, "atlas", days=0.5)
    assert reason_of(bench, gateway, Renewed(young)) is Reason.RENEWAL_REFUSED


def test_a_certificate_that_opens_nothing_is_not_renewed(bench: Bench, gateway: Gateway) -> None:
    expired = container(bench.site.cards, "atlas", days=-3)
    assert reason_of(bench, gateway, Renewed(expired)) is Reason.CERTIFICATE_EXPIRED
    old = due(bench)
    assert gateway.command("revoke", "--certificate", serial(old)).returncode == 0
    assert reason_of(bench, gateway, Renewed(old)) is Reason.CERTIFICATE_REVOKED


def test_a_gateway_without_a_ca(bench: Bench) -> None:
    assert reason_of(bench, bench.gateway, Renewed(due(bench))) is Reason.RENEWAL_UNAVAILABLE


def test_only_the_holder_asks(bench: Bench, gateway: Gateway) -> None:
    old = due(bench)
    thief = SoftSigner(ec.generate_private_key(ec.SECP256R1()), old.chain)

    async def way() -> None:
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            with pytest.raises(Refusal) as refused:
                await Renewed(thief).ask(channel)
            assert refused.value.reason is Reason.CARD_PROOF
            stranger = due(bench)
            with pytest.raises(Refusal) as refused:
                await Renewed(stranger).ask(channel)
            assert refused.value.reason is Reason.PROJECT_NOT_ON_CARD
            with pytest.raises(Refusal) as refused:
                await channel.confirm_renewal("atlas", stranger)
            assert refused.value.reason is Reason.RENEWAL_REFUSED

    asyncio.run(way())


def test_two_that_nobody_renewed_are_still_duplicates(bench: Bench, gateway: Gateway) -> None:
    async def way() -> None:
        old, stranger = due(bench), due(bench)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            new = await Renewed(old).ask(channel)
            offers = await channel.prove_card(card(old, new, stranger), new)
            assert [offer.reason for offer in offers] == ["container-duplicate", None, "container-duplicate"]

    asyncio.run(way())


def test_revoking_one_revokes_its_line(bench: Bench, gateway: Gateway) -> None:
    async def way() -> None:
        old = due(bench)
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(old), old)
            new = await Renewed(old).all_of_it(channel)
            assert gateway.command("revoke", "--certificate", serial(old)).returncode == 0
            (offer,) = await channel.prove_card(card(new), new)
            assert offer.reason == "certificate-revoked"

    asyncio.run(way())


def test_the_tls_key_signs_no_cards(bench: Bench) -> None:
    site = replace(bench.site, server_key=bench.site.cards.key, server_certificate=bench.site.cards.certificate)
    with pytest.raises(AssertionError, match="must not be the gateway's TLS key"), running_gateway(site, **ISSUING):
        pass
