"""An IAS-ECC card with the box's OpenSC: its login fails there, and costs nothing. If this test fails, OpenSC is well
again: meet the card on the box too (tests/service/smartcard_cases.py), and correct the variant's notes.
"""

from __future__ import annotations

import asyncio

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, running_pcscd
from sdbox.bench.softtoken import PIN
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root


def test_opensc_of_the_box_sends_no_pin() -> None:
    stack = stack_named("box")

    async def scene() -> None:
        async with await CardWorker.start(variant_named("ias-ecc"), READER, python=stack.python) as worker:
            assert (await worker.status()).tries == 3
            with pytest.raises(Refusal) as refused:
                await worker.login(bytearray(PIN.encode()))
            assert refused.value.reason is Reason.CARD_FAILED
        async with await CardWorker.start(variant_named("ias-ecc"), READER, python=stack.python) as worker:
            assert (await worker.status()).tries == 3

    options = ("--keys", "rsa2048")
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, "ias-ecc", ("atlas",), options) as card:
        card.insert()
        stack.wait_for_card(READER)
        asyncio.run(scene())
        assert card.verifies == 0
