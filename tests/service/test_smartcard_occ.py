"""On-card comparison through real PC/SC: the sensor's part in a login, removal and swap meanwhile, kinds of keys."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.certificates import Scheme, is_signed_by, public_key_of
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.minutiae import card_template
from sdbox.smartcard.pcsc import ask_card, reset_card
from sdbox.smartcard.values import LoginRefused
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.boxsensor import BoxSensor, sensor_line
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.piv_references import FINGER_LIMITS, enrolled_template
from tests.service.smartcard_bench import (
    READER,
    SENSOR,
    Pcscd,
    emulated_card,
    running_pcscd,
    sees_card,
    wait_for,
)

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


def test_a_touch_counts_only_when_it_was_asked_for(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, NAME) as card:
        card.insert()
        card.tell("touch good")
        card.expect("sensor off")

        async def scene() -> None:
            async with await start() as worker:
                assert (await worker.status()).tries == 3
                card.tell("touch good")
                await asyncio.to_thread(card.expect, "sensor off")
                login = asyncio.create_task(worker.login(None))
                await asyncio.to_thread(card.expect, "sensor wait")
                card.tell("touch good")
                assert [each.project for each in (await login).containers] == ["atlas", "boreal"]
                card.tell("touch good")
                await asyncio.to_thread(card.expect, "sensor off")

        asyncio.run(scene())
        assert (card.verifies, card.events.count("sensor template")) == (1, 1)


@pytest.mark.parametrize("kind", ["p384", "rsa2048"])
def test_twenty_one_containers_sign_with_every_kind_of_key(pcscd: Pcscd, kind: str) -> None:
    names = [f"project-{number}" for number in range(21 if kind == "p384" else 3)]
    with emulated_card(pcscd, NAME, names, ["--keys", kind]) as card:
        card.insert()
        card.tell("auto good")

        async def scene() -> None:
            async with await start() as worker:
                found = (await worker.login(None)).containers
                assert [each.project for each in found] == names
                assert [each.key_id.hex() for each in found[:3]] == ["9a", "82", "83"]
                for container in (found[0], found[-1]):
                    scheme, signature = await worker.sign(container.key_id, b"content", OFFERED)
                    key = public_key_of(container.certificate)
                    assert key is not None
                    assert is_signed_by(key, Scheme(scheme), b"content", signature)

        asyncio.run(scene())
        assert card.verifies == 1


def test_removal_while_the_sensor_waits_ends_the_wait(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, NAME) as card:
        card.insert()

        async def scene() -> None:
            worker = await start()
            login = asyncio.create_task(worker.login(None))
            await asyncio.to_thread(card.expect, "sensor wait")
            card.remove()
            worker.kill()
            with pytest.raises(Refusal):
                await login
            await worker.close()
            await asyncio.to_thread(card.expect, "sensor off")
            card.tell("touch good")
            await asyncio.to_thread(card.expect, "sensor off")

        asyncio.run(scene())
        assert card.verifies == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_a_card_put_in_while_the_sensor_waits_gets_no_template(pcscd: Pcscd, *, at_once: bool) -> None:
    """The finger was meant for the card that was in."""
    with emulated_card(pcscd, NAME, ("atlas",)) as old, emulated_card(pcscd, NAME, ("boreal",)) as new:
        old.insert()

        async def scene() -> None:
            worker = await start()
            login = asyncio.create_task(worker.login(None))
            await asyncio.to_thread(old.expect, "sensor wait")
            old.remove()
            await asyncio.to_thread(lambda: new.insert(at_once=at_once))
            old.tell("touch good")
            with pytest.raises(Refusal) as refused:
                await login
            assert refused.value.reason is Reason.CARD_FAILED
            await worker.close()

        asyncio.run(scene())
        assert old.verifies == new.verifies == 0
        assert "sensor template" in old.events


def test_a_swapped_card_signs_nothing(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, NAME, ("atlas",)) as old, emulated_card(pcscd, NAME, ("boreal",)) as new:
        old.insert()
        old.tell("auto good")

        async def scene() -> None:
            worker = await start()
            identity = await worker.login(None)
            old.remove()
            new.insert()
            await asyncio.to_thread(wait_for, sees_card, "PC/SC to see the other card")
            with pytest.raises(Refusal):
                await worker.sign(identity.containers[0].key_id, b"content", OFFERED)
            await worker.close()

        asyncio.run(scene())
        assert "sign" not in [*old.events, *new.events]


def test_without_a_sensor_no_try_is_spent(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, NAME) as card:
        SENSOR.unlink()
        card.insert()

        async def scene() -> None:
            async with await start() as worker:
                refused = await refusal_of(worker)
                assert (refused.reason, refused.tries) == (Reason.CARD_SENSOR, 3)
                assert (await worker.status()).tries == 3

        asyncio.run(scene())
        assert card.verifies == 0


def test_a_card_without_a_finger_is_told(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, NAME, options=["--finger", ""]) as card:
        card.insert()

        async def scene() -> None:
            worker = await start()
            with pytest.raises(Refusal) as refused:
                await worker.status()
            assert refused.value.reason is Reason.CARD_NO_FINGER
            await worker.close()

        asyncio.run(scene())
        assert not [event for event in card.events if event.startswith(("sensor", "verify"))]


def test_a_card_that_was_reset_by_somebody_else_is_opened_all_the_same(pcscd: Pcscd) -> None:
    """Before the login anybody may talk to the card: it costs no try, and what they selected does not matter."""
    with emulated_card(pcscd, NAME) as card:
        card.insert()
        card.tell("auto good")

        async def scene() -> None:
            async with await start() as worker:
                await worker.status()
                assert await asyncio.to_thread(_select_nothing) == b"\x6a\x82"
                await asyncio.to_thread(reset_card, READER)
                assert (await worker.login(None)).containers

        asyncio.run(scene())
        assert card.verifies == 1


def test_tries_that_others_spent_meanwhile_count(pcscd: Pcscd) -> None:
    """While the finger is awaited the card is anybody's: its last try is still not spent without a yes (S7)."""
    wrong = enrolled_template("wrong")
    with emulated_card(pcscd, NAME) as card:
        card.insert()

        async def scene() -> None:
            async with await start() as worker:
                login = asyncio.create_task(worker.login(None))
                await asyncio.to_thread(card.expect, "sensor wait")
                for tries in (2, 1):
                    command = bytes((0x00, 0x20, 0x00, 0x96, len(wrong))) + wrong
                    answer = await asyncio.to_thread(ask_card, READER, command)
                    assert answer == bytes((0x63, 0xC0 | tries))
                card.tell("touch good")
                with pytest.raises(LoginRefused) as refused:
                    await login
                assert (refused.value.reason, refused.value.tries) == (Reason.CARD_LAST_TRY, 1)

        asyncio.run(scene())
        assert card.verifies == 2


def _select_nothing() -> bytes:
    return ask_card(READER, bytes.fromhex("00A4040005A000000000"))


def test_the_worker_keeps_no_template(pcscd: Pcscd) -> None:
    """After a login neither the sensor's record nor the card's template is in the worker's memory (S8)."""
    record = capture(finger_named("good"), random.Random(5))
    template = card_template(record, FINGER_LIMITS)
    with emulated_card(pcscd, NAME) as card:
        SENSOR.unlink()
        card.insert()

        async def scene() -> None:
            async with await start() as worker:
                await worker.login(None)
                memory = _memory_of(worker.pid)
                assert memory.count(b"PIV 9A") > 0, "it is the worker's memory that was read"
                assert [part for part in _pieces(record) if part in memory] == []
                assert [part for part in _pieces(template) if part in memory] == []

        with sensor_line(f"pty:{SENSOR}") as line, closing(BoxSensor(line, lambda _event: None)) as sensor:
            sensor._chance = random.Random(5)
            sensor.rest("good")
            asyncio.run(scene())
        assert card.verifies == 1


def _pieces(data: bytes | bytearray, size: int = 12) -> list[bytes]:
    """Return pieces that are too long to be in a memory by chance."""
    return [bytes(data[start : start + size]) for start in range(0, len(data) - size, size)]


def _memory_of(pid: int) -> bytes:
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(value, 16) for value in span.split("-"))
                memory.seek(start)
                parts.append(memory.read(end - start))
    return b"".join(parts)
