"""A PIN typed while the card is still being read: the reading takes nothing of the time that a login may take."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, running_pcscd, sees_card, wait_for
from sdbox.bench.softtoken import PIN
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root
DEADLINE = 2  # twenty commands of a slow card


def test_reading_a_slow_card_is_no_part_of_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbox.smartcard.client.CALL_DEADLINE", 60.0)
    variant = variant_named("piv")
    hasty = msgspec.structs.replace(variant, login=msgspec.structs.replace(variant.login, deadline=DEADLINE))

    async def scene() -> float:
        async with await CardWorker.start(hasty, READER) as worker:
            await worker.status()
            begun = time.monotonic()
            assert len((await worker.login(bytearray(PIN.encode()))).containers) == 1
            return time.monotonic() - begun

    with running_pcscd() as pcscd, emulated_card(pcscd, "piv", ("atlas",), ["--fault", "slow"]) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        assert asyncio.run(scene()) > DEADLINE, "the card was read within the login's deadline: it shows nothing"
        assert card.verifies == 1
