"""A card that is silent from its first command on: the box says so at a deadline, and leaves nothing waiting for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.agent.card import CardSeat
from sdbox.agent.events import CardRefused, PinAwaited
from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.protocol.reasons import Reason
from sdbox.smartcard.values import CardInserted
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root
NAME = "gids"  # its ATR is another variant's too: it is asked for its application before it has a worker
SECONDS = 2.0


@pytest.fixture
def pcscd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pcscd]:
    monkeypatch.setattr("sdbox.smartcard.recognise.ASK_DEADLINE", SECONDS)
    with running_pcscd() as service:
        yield service


@pytest.fixture
def card(pcscd: Pcscd) -> Iterator[EmulatedCard]:
    with emulated_card(pcscd, NAME, ("atlas",)) as card:
        yield card


def seat() -> CardSeat:
    return CardSeat(CardInserted(READER, bytes.fromhex(variant_named(NAME).atrs[0].value)), user=None)


def put_in_silent(card: EmulatedCard) -> None:
    card.tell("stall 0")
    card.insert()
    wait_for(sees_card, "PC/SC to see the card")


def errands() -> list[str]:
    """Return the command lines of the processes that ask a card something short."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended
        found += [line] if "sdbox.smartcard.errand" in line and READER in line else []
    return found


def test_it_is_refused_at_a_deadline_and_read_when_it_is_put_in_anew(card: EmulatedCard) -> None:
    async def scene() -> None:
        async with asyncio.timeout(SECONDS + 5):
            assert await seat().read() == CardRefused(Reason.CARD_FAILED)
        assert errands() == []
        assert all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate())
        card.remove()
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        again = seat()
        assert isinstance(await again.read(), PinAwaited)
        await again.close()

    put_in_silent(card)
    asyncio.run(scene())
    assert "stalled" in card.events


def test_nothing_waits_for_it_once_it_is_pulled(card: EmulatedCard) -> None:
    async def scene() -> None:
        reading = asyncio.ensure_future(seat().read())
        await asyncio.to_thread(card.expect, "stalled")
        assert len(errands()) == 1
        reading.cancel()
        await asyncio.wait([reading], timeout=SECONDS / 2)
        assert reading.cancelled()
        assert errands() == []

    put_in_silent(card)
    asyncio.run(scene())
