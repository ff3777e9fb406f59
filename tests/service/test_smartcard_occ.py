"""On-card comparison through real PC/SC: the sensor's part in a login, removal and swap meanwhile, kinds of keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.certificates import Scheme, is_signed_by, public_key_of
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.pcsc import ask_card, reset_card
from sdbox.smartcard.values import LoginRefused
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.piv_references import enrolled_template

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
