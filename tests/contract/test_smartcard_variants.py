"""What every variant must do alike: status, a wrong login, a right login, containers, signatures, the end.

The agent relies on exactly this. Each emulated variant is met twice: with this host's OpenSC and with the box's own.
Each card holds as many of three projects as its variant allows, with keys of the first kind that the variant names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sdbox.bench.card_places import stack_named
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.certificates import Scheme, is_signed_by, public_key_of
from sdbox.smartcard.values import LoginMethod, LoginRefused
from tests.contract.card_stage import Stage, card_stage, softhsm_stage
from tests.service.smartcard_cases import cases

pytestmark = pytest.mark.root


@pytest.fixture(params=cases("softhsm"), ids="-".join)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    name, place = request.param
    stack = stack_named(place)
    with softhsm_stage(stack) if name == "softhsm" else card_stage(name, stack) as ready:
        yield ready


def test_a_session_from_status_to_signature(stage: Stage) -> None:
    async def scene() -> None:
        async with await stage.start() as worker:
            status = await worker.status()
            assert status.method is stage.variant.login.method
            assert not status.blocked
            identity = await worker.login(stage.credential(right=True))
            assert identity.variant == stage.variant.name
            assert identity.serial
            assert sorted(container.project or "" for container in identity.containers) == stage.projects
            for container in identity.containers:
                chosen, signature = await worker.sign(container.key_id, b"content", SCHEMES)
                key = public_key_of(container.certificate)
                assert key is not None
                assert is_signed_by(key, Scheme(chosen), b"content", signature)
                assert not is_signed_by(key, Scheme(chosen), b"other", signature)

    asyncio.run(scene())


def test_a_wrong_login_is_refused_and_a_right_one_still_works(stage: Stage) -> None:
    async def scene() -> None:
        async with await stage.start() as worker:
            before = await worker.status()
            with pytest.raises(LoginRefused) as refused:
                await worker.login(stage.credential(right=False))
            finger = stage.variant.login.method is LoginMethod.FINGER
            assert refused.value.reason is (Reason.CARD_FINGER if finger else Reason.CARD_PIN)
            if before.tries is not None:
                assert refused.value.tries == before.tries - 1
            assert (await worker.login(stage.credential(right=True))).containers

    asyncio.run(scene())


def test_no_signature_before_login_nor_with_an_unknown_key(stage: Stage) -> None:
    async def scene() -> None:
        async with await stage.start() as worker:
            with pytest.raises(Refusal):
                await worker.sign(b"\x01", b"content", [0x0403])
            await worker.login(stage.credential(right=True))
            with pytest.raises(Refusal) as refused:
                await worker.sign(b"\x77", b"content", [0x0403])
            assert refused.value.reason is Reason.CARD_PROOF

    asyncio.run(scene())


def test_a_credential_of_the_other_kind_costs_nothing(stage: Stage) -> None:
    async def scene() -> None:
        async with await stage.start() as worker:
            before = await worker.status()
            finger = stage.variant.login.method is LoginMethod.FINGER
            with pytest.raises(Refusal):
                await worker.login(bytearray(b"123456") if finger else None)
            assert await worker.status() == before

    asyncio.run(scene())


def test_the_same_card_has_the_same_serial_in_the_next_session(stage: Stage) -> None:
    async def scene() -> None:
        serials = []
        for _ in range(2):
            async with await stage.start() as worker:
                serials.append((await worker.login(stage.credential(right=True))).serial)
        assert serials[0] == serials[1]

    asyncio.run(scene())
