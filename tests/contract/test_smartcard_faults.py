"""Cards that misbehave, of every variant: a refusal, no login that nobody made, and the next card works."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import running_pcscd
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.variants import Variant
from sdbox.smartcard.virtual.faults import SLOW_SECONDS, Fault
from tests.contract.card_stage import Stage, card_stage
from tests.service.smartcard_cases import cases

pytestmark = pytest.mark.root
DEADLINE = 3  # seconds, of a login with a card that does not answer
TOO_LONG = 20
NO_USE = {Reason.CARD_FAILED, Reason.CARD_PROOF, Reason.CARD_UNKNOWN, Reason.CARD_UNTRUSTED, Reason.CARD_NO_FINGER}
for_each_card = pytest.mark.parametrize(("name", "place"), cases())
SLOW_ONES = [("sc-hsm-bio", "host"), ("piv", "box"), ("goid", "box")]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def use(stage: Stage, worker: CardWorker) -> None:
    """Log in and sign with the first container; without any there is nothing to sign with."""
    identity = await worker.login(stage.credential(right=True))
    key_id = identity.containers[0].key_id if identity.containers else b"none"
    await worker.sign(key_id, b"content", SCHEMES)


async def refusal_of(stage: Stage, worker: CardWorker) -> Refusal:
    """Return what comes of a card's use; its worker is gone then."""
    try:
        with pytest.raises(Refusal) as refused:
            async with asyncio.timeout(TOO_LONG):
                await use(stage, worker)
    finally:
        await worker.close()
    assert not is_alive(worker.pid)
    return refused.value


async def session(stage: Stage) -> None:
    async with await stage.start() as worker:
        await worker.status()
        await use(stage, worker)


def impatient(variant: Variant) -> Variant:
    return msgspec.structs.replace(variant, login=msgspec.structs.replace(variant.login, deadline=DEADLINE))


def waited_in_vain(refused: Refusal, worker: CardWorker) -> bool:
    told = (refused.reason, refused.detail)
    return worker.silent and told == (Reason.CARD_FAILED, f"AskLogin: no answer in {DEADLINE} s")


@for_each_card
@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.OVERSIZED])
def test_nonsense_at_the_login_is_refused_and_nothing_is_tried_again(name: str, place: str, fault: Fault) -> None:
    """A card that says yes to any finger opens nothing: no certificate of it comes with a signature that verifies."""
    with card_stage(name, stack_named(place), ["--fault", fault]) as stage:

        async def scene() -> Refusal:
            worker = await stage.start()
            await worker.status()
            return await refusal_of(stage, worker)

        assert asyncio.run(scene()).reason in {Reason.CARD_FAILED, Reason.CARD_PROOF}
        assert "sign" not in stage.card.events
        assert stage.card.verifies == 1, "the noise was answered by another login"


@for_each_card
def test_a_card_that_is_mute_at_the_login_runs_into_the_deadline(name: str, place: str) -> None:
    with card_stage(name, stack_named(place), ["--fault", Fault.MUTE]) as stage:

        async def scene() -> None:
            worker = await stage.start(impatient(stage.variant))
            await worker.status()
            assert not worker.silent
            assert waited_in_vain(await refusal_of(stage, worker), worker)

        asyncio.run(scene())
        assert stage.card.verifies == 1


@for_each_card
def test_a_card_that_makes_no_sense_from_the_beginning_spares_the_next_one(name: str, place: str) -> None:
    """What the module reads first, the directory and the certificates, is nonsense.

    One that is mute from its first command: `tests/service/test_agent_silent_card.py`.
    """
    stack = stack_named(place)
    with running_pcscd(stack) as pcscd:
        for fault in (Fault.GARBAGE, Fault.OVERSIZED):
            with card_stage(name, stack, ["--fault", fault, "--fault-at-once"], pcscd=pcscd) as bad:
                asyncio.run(_useless(bad))
                assert bad.card.verifies <= 1
                bad.card.remove()
                assert any(taped.command for taped in bad.card.tape()), "it was asked nothing"
        with card_stage(name, stack, pcscd=pcscd) as good:
            asyncio.run(session(good))


async def _useless(stage: Stage) -> None:
    refused = await refusal_of(stage, await stage.start(stage.variant))
    assert refused.reason in NO_USE


@for_each_card
def test_a_card_that_denies_signatures_is_refused(name: str, place: str) -> None:
    with card_stage(name, stack_named(place), ["--fault", Fault.FORGETFUL]) as stage:

        async def scene() -> None:
            async with await stage.start() as worker:
                identity = await worker.login(stage.credential(right=True))
                with pytest.raises(Refusal) as refused:
                    await worker.sign(identity.containers[0].key_id, b"content", SCHEMES)
                assert refused.value.reason is Reason.CARD_FAILED

        asyncio.run(scene())
        assert stage.card.verifies == 1


@for_each_card
def test_removal_within_a_signature_ends_it(name: str, place: str) -> None:
    with card_stage(name, stack_named(place), ["--fault", Fault.HANGS]) as stage:

        async def scene() -> None:
            async with await stage.start() as worker:
                identity = await worker.login(stage.credential(right=True))
                signing = asyncio.ensure_future(worker.sign(identity.containers[0].key_id, b"content", SCHEMES))
                await asyncio.to_thread(stage.card.expect, "hangs")
                stage.card.remove()
                with pytest.raises(Refusal) as refused:
                    await signing
                assert refused.value.reason is Reason.CARD_FAILED

        asyncio.run(scene())
        assert "sign" not in stage.card.events


@pytest.mark.parametrize(("name", "place"), SLOW_ONES)
def test_a_slow_card_works(name: str, place: str) -> None:
    with card_stage(name, stack_named(place), ["--fault", Fault.SLOW]) as stage:
        begun = time.monotonic()
        asyncio.run(session(stage))
        commands = sum(bool(taped.command) for taped in stage.card.tape())
        assert time.monotonic() - begun > commands * SLOW_SECONDS > 1
        assert (stage.card.verifies, stage.card.events.count("sign")) == (1, 1)
