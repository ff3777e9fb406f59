"""What wrong cards get: a reason code, no tunnel, and a channel on which the next card may follow."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sdbox.agent.channel.authenticator import channel_keys, make_authenticator
from sdbox.agent.channel.channel import Channel
from sdbox.protocol import messages as m
from sdbox.protocol.authenticator_request import certificate_request
from sdbox.protocol.contexts import open_context
from sdbox.protocol.reasons import Reason, Refusal
from tests.service.gateway_bench import Bench, SoftSigner, card, container, running_bench
from tests.service.gateway_site import Gateway, running_gateway
from tests.unit.channel_certificates import Authority
from tests.unit.test_odd_certificates import UNREADABLE


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def offer_reason(bench: Bench, *signers: SoftSigner) -> list[str | None]:
    async def way() -> list[str | None]:
        async with bench.attested() as channel:
            offers = await channel.prove_card(card(*signers), signers[0])
            assert [offer.certificate for offer in offers] == [sha256(der).digest() for der in card(*signers)]
            for signer, offer in zip(signers, offers, strict=True):
                if offer.reason is not None:
                    with pytest.raises(Refusal) as caught:
                        await channel.open(offer.project, os.urandom(32), signer)
                    assert caught.value.reason == offer.reason
            assert bench.peers() == 0
            return [offer.reason for offer in offers]

    return asyncio.run(way())


def test_an_expired_certificate(bench: Bench) -> None:
    assert offer_reason(bench, container(bench.site.cards, "atlas", days=-3)) == ["certificate-expired"]


def test_a_certificate_of_the_future(bench: Bench) -> None:
    assert offer_reason(bench, container(bench.site.cards, "atlas", days=3)) == ["certificate-not-yet-valid"]


def test_a_foreign_issuer_even_with_our_name(bench: Bench) -> None:
    assert offer_reason(bench, container(Authority("card CA"), "atlas")) == ["certificate-issuer"]
    assert offer_reason(bench, container(Authority("other CA"), "atlas")) == ["certificate-issuer"]


def test_a_certificate_that_may_not_sign(bench: Bench) -> None:
    assert offer_reason(bench, container(bench.site.cards, "atlas", signs=False)) == ["certificate-usage"]


def test_of_two_valid_containers_the_newer_opens_wherever_it_is(bench: Bench) -> None:
    older, newer = (container(bench.site.cards, "atlas", days=days) for days in (-0.5, 0.5))
    assert offer_reason(bench, older, newer) == ["container-duplicate", None]
    assert offer_reason(bench, newer, older) == [None, "container-duplicate"]


def test_a_bad_container_costs_the_good_one_of_its_project_nothing(bench: Bench) -> None:
    good, expired = container(bench.site.cards, "atlas"), container(bench.site.cards, "atlas", days=-3)
    future, foreign = container(bench.site.cards, "atlas", days=3), container(Authority("card CA"), "atlas", days=0.5)
    assert offer_reason(bench, future, foreign, good, expired) == [
        *("certificate-not-yet-valid", "certificate-issuer"),
        *(None, "certificate-expired"),
    ]


def test_what_is_no_certificate_costs_the_others_nothing(bench: Bench) -> None:
    async def way() -> None:
        good = bench.container("atlas")
        async with bench.attested() as channel:
            (offer,) = await channel.prove_card((b"no certificate", *card(good)), good)
            assert (offer.project, offer.reason) == ("atlas", None)
            await channel.open("atlas", os.urandom(32), good)

    asyncio.run(way())


def test_a_project_without_a_bubble(bench: Bench) -> None:
    assert offer_reason(bench, bench.container("cassini")) == ["project-no-bubble"]


def test_a_card_without_a_project(bench: Bench) -> None:
    async def way() -> None:
        signer = container(bench.site.cards)
        async with bench.attested() as channel:
            with pytest.raises(Refusal) as caught:
                await channel.prove_card(card(signer), signer)
            assert caught.value.reason is Reason.CARD_EMPTY
            good = bench.container("atlas")
            assert await channel.prove_card(card(good), good)  # another card may follow on the same channel

    asyncio.run(way())


def opening(
    bench: Bench, shown: SoftSigner, project: str, signer: SoftSigner, gateway: Gateway | None = None
) -> Reason:
    async def way() -> Reason:
        async with bench.attested(gateway) as channel:
            await channel.prove_card(card(shown), shown)
            with pytest.raises(Refusal) as caught:
                await channel.open(project, os.urandom(32), signer)
            assert bench.peers() == 0
            return caught.value.reason

    return asyncio.run(way())


def test_a_card_without_the_container_for_the_bubble(bench: Bench) -> None:
    atlas = bench.container("atlas")
    assert opening(bench, atlas, "boreal", atlas) is Reason.PROJECT_NOT_ON_CARD


def test_a_bubble_that_wants_more_of_the_box(bench: Bench) -> None:
    """The box is accepted, and stays connected; this bubble asks for a claim that its result does not have."""
    atlas = bench.container("atlas")
    site = replace(bench.site, needs='models = ["Bench Q35"]')
    with running_gateway(site) as gateway:
        assert opening(bench, atlas, "atlas", atlas, gateway) is Reason.PROJECT_DEVICE
        (detail,) = [event["detail"] for event in gateway.events() if event.get("reason") == "project-device"]
        assert detail == "models"


def test_a_container_of_another_card(bench: Bench) -> None:
    assert opening(bench, bench.container("atlas"), "atlas", bench.container("atlas")) is Reason.PROJECT_NOT_ON_CARD


def test_a_certificate_shown_with_another_key(bench: Bench) -> None:
    atlas = bench.container("atlas")
    thief = SoftSigner(ec.generate_private_key(ec.SECP256R1()), atlas.chain)
    assert opening(bench, atlas, "atlas", thief) is Reason.CARD_PROOF


def test_a_signer_that_is_not_among_the_certificates(bench: Bench) -> None:
    async def way() -> None:
        async with bench.attested() as channel:
            with pytest.raises(Refusal) as caught:
                await channel.prove_card(card(bench.container("atlas")), bench.container("boreal"))
            assert caught.value.reason is Reason.CARD_PROOF

    asyncio.run(way())


async def proof(channel: Channel, nonce: bytes, key: bytes, signer: SoftSigner) -> bytes:
    request = certificate_request(open_context(nonce, "atlas", key))
    return await make_authenticator(channel_keys(channel._stream), request, signer.chain, signer.sign)


@pytest.mark.parametrize("how", ["replayed", "nonce", "key", "project"])
def test_an_authenticator_made_for_something_else(bench: Bench, how: str) -> None:
    async def way() -> None:
        atlas, boreal = bench.container("atlas"), bench.container("boreal")
        async with bench.attested() as channel:
            await channel.prove_card(card(atlas, boreal), atlas)
            key = os.urandom(32)
            nonce = os.urandom(32) if how == "nonce" else channel._link.nonce()
            message = m.Open("atlas", key, await proof(channel, nonce, key, atlas))
            if how == "replayed":
                grant = await channel._link.ask(message, m.GrantMessage)
                await channel.close_session(grant.session, "user")
            if how == "key":
                message = m.Open("atlas", os.urandom(32), message.authenticator)
            if how == "project":
                message = m.Open("boreal", key, message.authenticator)
            with pytest.raises(Refusal) as caught:
                await channel._link.ask(message, m.GrantMessage)
            assert caught.value.reason is Reason.CARD_PROOF
            assert bench.peers() == 0

    asyncio.run(way())


def test_an_authenticator_of_another_channel(bench: Bench) -> None:
    async def way() -> None:
        atlas, key = bench.container("atlas"), os.urandom(32)
        async with bench.attested() as one, bench.attested() as other:
            await one.prove_card(card(atlas), atlas)
            message = m.Open("atlas", key, await proof(other, one._link.nonce(), key, atlas))
            with pytest.raises(Refusal) as caught:
                await one._link.ask(message, m.GrantMessage)
            assert caught.value.reason is Reason.CARD_PROOF

    asyncio.run(way())


def test_a_tunnel_key_of_another_session(bench: Bench) -> None:
    """It would take over the other box's peer."""

    async def way() -> None:
        atlas, key = bench.container("atlas"), os.urandom(32)
        async with bench.attested() as one, bench.attested() as other:
            for channel in (one, other):
                await channel.prove_card(card(atlas), atlas)
            await one.open("atlas", key, atlas)
            before = dict(bench.tunnels["atlas"][key.hex()])
            with pytest.raises(Refusal) as caught:
                await other.open("atlas", key, atlas)
            assert caught.value.reason is Reason.TUNNEL_FAILED
            assert bench.tunnels["atlas"][key.hex()] == before

    asyncio.run(way())


def test_a_bubble_with_fresh_finger_is_entered_only_after_a_proof_of_its_own(bench: Bench) -> None:
    site = replace(bench.site, fresh=("boreal",))

    async def way(gateway: Gateway) -> None:
        atlas, boreal = bench.container("atlas"), bench.container("boreal")

        async def refused() -> bool:
            with pytest.raises(Refusal) as caught:
                await channel.open("boreal", os.urandom(32), boreal)
            return caught.value.reason is Reason.CARD_FRESH

        async with bench.attested(gateway) as channel:
            offers = await channel.prove_card(card(atlas, boreal), atlas)
            assert [offer.fresh for offer in offers] == [False, True]
            await channel.open("atlas", os.urandom(32), atlas)
            assert await refused(), "the proof has opened another bubble"
            await channel.prove_card(card(atlas, boreal), atlas)
            assert (await channel.open("boreal", os.urandom(32), boreal)).project == "boreal"
            assert await refused(), "the proof has been used"
            await channel.open("atlas", os.urandom(32), atlas)

    with running_gateway(site) as gateway:
        asyncio.run(way(gateway))


@pytest.mark.parametrize("what", ["year 0", "number 0", "an X.400 address", "nothing"])
def test_an_odd_certificate_costs_the_others_nothing(bench: Bench, what: str) -> None:
    """The library raises for these when their fields are compared, not when they are read."""

    async def way() -> None:
        signer = bench.container("atlas")
        async with bench.attested() as channel:
            (offer,) = await channel.prove_card((UNREADABLE[what], *card(signer)), signer)
            assert offer.project == "atlas"

    asyncio.run(way())
    assert not [event for event in bench.gateway.events() if event.get("reason") == "internal"]
