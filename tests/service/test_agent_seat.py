"""A card that is not the one PC/SC told of: swapped within milliseconds, it is read for what it is."""

from __future__ import annotations

import asyncio

import pytest

from sdbox.agent.card import CardSeat
from sdbox.agent.events import CardRefused, CardStep, FingerAwaited, PinAwaited
from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, running_pcscd, sees_card, wait_for
from sdbox.protocol.reasons import Reason
from sdbox.smartcard.values import CardInserted
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root


def read(told: str) -> CardStep:
    async def scene() -> CardStep:
        seat = CardSeat(CardInserted(READER, bytes.fromhex(variant_named(told).atrs[0].value)), user=None)
        try:
            return await seat.read()
        finally:
            await seat.close()

    return asyncio.run(scene())


@pytest.mark.parametrize(
    ("told", "there", "step"), [("sc-hsm-bio", "piv", PinAwaited), ("piv", "sc-hsm-bio", FingerAwaited)]
)
def test_the_card_that_is_there_is_read(told: str, there: str, step: type[CardStep]) -> None:
    with running_pcscd() as pcscd, emulated_card(pcscd, there) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        assert isinstance(read(told), step)
        assert card.verifies == 0


def test_a_card_that_went_is_refused() -> None:
    with running_pcscd() as pcscd, emulated_card(pcscd, "piv"):
        assert read("piv") == CardRefused(Reason.CARD_FAILED)
