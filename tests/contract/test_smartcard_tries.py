"""The tries of a card, of every variant: the last one is the user's to risk, a blocked card is asked nothing (S7)."""

from __future__ import annotations

import asyncio

import pytest

from sdbox.bench.card_places import stack_named
from sdbox.protocol.reasons import Reason
from sdbox.smartcard.values import LoginRefused
from sdbox.smartcard.virtual.faults import Fault
from tests.contract.card_stage import card_stage
from tests.service.smartcard_cases import cases

pytestmark = pytest.mark.root
for_each_card = pytest.mark.parametrize(("name", "place"), cases())


@for_each_card
def test_the_last_try_is_left_alone_without_the_users_word(name: str, place: str) -> None:
    with card_stage(name, stack_named(place)) as stage:

        async def scene() -> None:
            async with await stage.start() as worker:
                for tries in (2, 1):
                    with pytest.raises(LoginRefused) as refused:
                        await worker.login(stage.credential(right=False))
                    assert (refused.value.tries, refused.value.final_try) == (tries, tries == 1)
                with pytest.raises(LoginRefused) as refused:
                    await worker.login(stage.credential(right=True))
                assert (refused.value.reason, refused.value.tries) == (Reason.CARD_LAST_TRY, 1)
                assert stage.card.verifies == 2
                assert (await worker.login(stage.credential(right=True), last_try=True)).containers

        asyncio.run(scene())
        assert stage.card.verifies == 3


@for_each_card
def test_a_blocked_card_says_so_and_is_asked_nothing(name: str, place: str) -> None:
    with card_stage(name, stack_named(place), ["--fault", Fault.BLOCKED]) as stage:

        async def scene() -> None:
            async with await stage.start() as worker:
                status = await worker.status()
                assert (status.blocked, status.tries, status.final_try) == (True, 0, False)
                for last_try in (False, True):
                    with pytest.raises(LoginRefused) as refused:
                        await worker.login(stage.credential(right=True), last_try=last_try)
                    assert (refused.value.reason, refused.value.tries) == (Reason.CARD_BLOCKED, 0)

        asyncio.run(scene())
        assert stage.card.verifies == 0
