"""Variants are renewed as their files say: a new key beside the old one, or not at all and nothing is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.bench.card_places import stack_named
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.client_renewal import CardRenewal
from sdbox.smartcard.variants import Renewal, variant_named
from tests.contract.card_stage import Stage, card_stage, softhsm_stage
from tests.service.smartcard_cases import cases
from tests.unit.channel_certificates import Authority

pytestmark = pytest.mark.root
CARDS = Authority("card CA")
# One that is not renewed stands for all: what refuses is the same code.
CASES = [one for one in cases("softhsm") if variant_named(one[0]).renewal is not Renewal.NONE or one[0] == "piv"]


@pytest.fixture(params=CASES, ids="-".join)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    name, place = request.param
    stack = stack_named(place)
    with softhsm_stage(stack) if name == "softhsm" else card_stage(name, stack) as ready:
        yield ready


def issue(request: bytes, project: str) -> bytes:
    asked = x509.load_der_x509_csr(request)
    assert asked.is_signature_valid
    public = asked.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return CARDS.project(public, project).public_bytes(Encoding.DER)


def of(card: CardIdentity, project: str) -> list[bytes]:
    return [container.certificate for container in card.containers if container.project == project]


async def write_successor(worker: CardWorker, card: CardIdentity) -> bytes:
    old = next(container for container in card.containers if container.project == "atlas")
    renewal = CardRenewal(worker, old)
    key_id = await renewal.new_key()
    assert await renewal.new_key() == key_id, "a key that is left over is gone on with"
    certificate = issue(await renewal.request(key_id), "atlas")
    with pytest.raises(Refusal) as refused:
        await renewal.write(key_id, issue(await renewal.request(key_id), "boreal"))
    assert refused.value.reason is Reason.RENEWAL_FAILED
    after = await renewal.write(key_id, certificate)
    assert sorted(of(after, "atlas")) == sorted([old.certificate, certificate])
    with pytest.raises(Refusal) as refused:  # what a session has written it has not read from the card
        await renewal.retire(next(one for one in after.containers if one.certificate == certificate))
    assert refused.value.reason is Reason.RENEWAL_FAILED
    await worker.sign(old.key_id, b"content", SCHEMES)
    return certificate


async def retire_predecessor(worker: CardWorker, card: CardIdentity, certificate: bytes) -> None:
    (new,) = [container for container in card.containers if container.certificate == certificate]
    (old,) = [one for one in card.containers if one.project == "atlas" and one.certificate != certificate]
    await worker.sign(new.key_id, b"content", SCHEMES)
    after = await CardRenewal(worker, old).retire(new)
    assert of(after, "atlas") == [certificate]
    await worker.sign(new.key_id, b"content", SCHEMES)


def test_a_container_is_renewed_as_the_variant_says(stage: Stage) -> None:
    async def scene() -> None:
        async with await stage.start() as worker:
            card = await worker.login(stage.credential(right=True))
            others = {one for one in card.containers if one.project != "atlas"}
            if stage.variant.renewal is Renewal.NONE:
                with pytest.raises(Refusal) as refused:
                    await CardRenewal(worker, card.containers[0]).new_key()
                assert refused.value.reason is Reason.RENEWAL_FAILED
                await worker.sign(card.containers[0].key_id, b"content", SCHEMES)  # the session goes on
                return
            certificate = await write_successor(worker, card)
        async with await stage.start() as worker:
            card = await worker.login(stage.credential(right=True))
            await retire_predecessor(worker, card, certificate)
        async with await stage.start() as worker:
            card = await worker.login(stage.credential(right=True))
            assert of(card, "atlas") == [certificate]
            assert {one for one in card.containers if one.project != "atlas"} == others, "the others were touched"

    asyncio.run(scene())
