"""The box's sensor in a login by the card worker: absent, nonsense, too little; and nothing is left in memory (S8)."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import places
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.protocol.reasons import Reason
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.minutiae import card_template
from sdbox.smartcard.sensor_frames import FrameReader, Kind, encode
from sdbox.smartcard.values import LoginRefused
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.boxsensor import BoxSensor, sensor_line
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.piv_references import FINGER_LIMITS
from tests.service.worker_memory import memory_of
from tests.unit.minutiae_records import Row, record

pytestmark = pytest.mark.root
NAME = "piv-occ"
OFFERED = [0x0403, 0x0503, 0x0804]


@pytest.fixture(scope="module")
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


async def start() -> CardWorker:
    await asyncio.to_thread(wait_for, sees_card, "PC/SC to see the card")
    return await CardWorker.start(variant_named(NAME), READER)


async def refusal_of(worker: CardWorker) -> LoginRefused:
    with pytest.raises(LoginRefused) as refused:
        await worker.login(None)
    return refused.value


def test_without_a_sensor_no_try_is_spent(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, NAME) as card:
        places().sensor.unlink()
        card.insert()

        async def scene() -> None:
            async with await start() as worker:
                refused = await refusal_of(worker)
                assert (refused.reason, refused.tries) == (Reason.CARD_SENSOR, 3)
                assert (await worker.status()).tries == 3

        asyncio.run(scene())
        assert card.verifies == 0


@pytest.mark.parametrize("minutiae", [None, 11])
def test_what_the_sensor_gives_is_looked_at_before_the_card_gets_it(pcscd: Pcscd, minutiae: int | None) -> None:
    """Nonsense, and a finger that hardly touched: no VERIFY, no try."""
    rows: list[Row] = [(1, 10 * number, 20, 0, 50) for number in range(minutiae or 0)]
    given = record(rows) if minutiae else bytearray(b"no record")
    with emulated_card(pcscd, NAME) as card:
        places().sensor.unlink()
        card.insert()

        async def scene() -> None:
            async with await start() as worker:
                refused = await refusal_of(worker)
                assert (refused.reason, refused.tries) == (Reason.CARD_UNCLEAR, 3)
                assert (await worker.status()).tries == 3

        with sensor_line(f"pty:{places().sensor}") as line:
            threading.Thread(target=_answer_once, args=(line, given), daemon=True).start()
            asyncio.run(scene())
        assert card.verifies == 0


def _answer_once(line: int, payload: bytearray) -> None:
    """Be a sensor that answers the first question with this."""
    reader = FrameReader()
    while True:
        try:
            frames = reader.feed(os.read(line, 100))
        except OSError:  # nobody has the terminal open yet
            time.sleep(0.02)
            continue
        if frames:
            os.write(line, encode(Kind.TEMPLATE, frames[0].ticket, payload))
            return


def test_the_worker_keeps_no_template(pcscd: Pcscd) -> None:
    """After a login neither the sensor's record nor the card's template is in the worker's memory (S8)."""
    touch = capture(finger_named("good"), random.Random(5))
    template = card_template(touch, FINGER_LIMITS)
    with emulated_card(pcscd, NAME) as card:
        places().sensor.unlink()
        card.insert()

        async def scene() -> None:
            async with await start() as worker:
                await worker.login(None)
                memory = memory_of(worker.pid)
                assert memory.count(b"PIV 9A") > 0, "it is the worker's memory that was read"
                assert [part for part in _pieces(touch) if part in memory] == []
                assert [part for part in _pieces(template) if part in memory] == []

        with sensor_line(f"pty:{places().sensor}") as line, closing(BoxSensor(line, lambda _event: None)) as sensor:
            sensor._chance = random.Random(5)
            sensor.rest("good")
            asyncio.run(scene())
        assert card.verifies == 1


def _pieces(data: bytes | bytearray, size: int = 12) -> list[bytes]:
    """Return pieces that are too long to be in a memory by chance."""
    return [bytes(data[start : start + size]) for start in range(0, len(data) - size, size)]
