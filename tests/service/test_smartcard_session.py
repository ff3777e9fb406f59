"""The card worker against emulated cards through real pcscd and OpenSC: fingers, PINs, counters, removal, reset."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.bench.softtoken import PIN
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.certificates import Scheme, is_signed_by, public_key_of
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.values import LoginRefused
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root
P256, PSS = 0x0403, 0x0804


@pytest.fixture
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


async def start(name: str) -> CardWorker:
    await asyncio.to_thread(wait_for, sees_card, "PC/SC to see the card")
    return await CardWorker.start(variant_named(name), READER)


def test_finger_opens_all_projects_and_signs(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "sc-hsm-bio", ("atlas", "boreal", "cassini")) as card:
        card.insert()

        async def scene() -> None:
            async with await start("sc-hsm-bio") as worker:
                login = asyncio.create_task(worker.login(None))
                await asyncio.to_thread(card.expect, "sensor wait")
                card.tell("touch good")
                identity = await login
                assert [container.project for container in identity.containers] == ["atlas", "boreal", "cassini"]
                for container in identity.containers:
                    scheme, signature = await worker.sign(container.key_id, b"content", [PSS, P256])
                    key = public_key_of(container.certificate)
                    assert scheme == P256
                    assert key is not None
                    assert is_signed_by(key, Scheme(scheme), b"content", signature)
                with pytest.raises(Refusal) as refused:
                    await worker.sign(identity.containers[0].key_id, b"content", [PSS])
                assert refused.value.reason is Reason.CARD_PROOF

        asyncio.run(scene())
        assert card.verifies == 1


def test_wrong_finger_spends_one_try_until_the_card_is_blocked(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "sc-hsm-bio") as card:
        card.insert()
        card.tell("auto wrong")

        async def scene() -> None:
            async with await start("sc-hsm-bio") as worker:
                for tries, reason in ((2, Reason.CARD_FINGER), (1, Reason.CARD_FINGER), (0, Reason.CARD_BLOCKED)):
                    with pytest.raises(LoginRefused) as refused:
                        await worker.login(None, last_try=tries == 0)
                    assert (refused.value.reason, refused.value.tries) == (reason, tries)
                    assert refused.value.final_try == (tries == 1)
                    status = await worker.status()
                    assert (status.tries, status.final_try, status.blocked) == (tries, tries == 1, tries == 0)
                with pytest.raises(LoginRefused) as refused:
                    await worker.login(None)
                assert refused.value.reason is Reason.CARD_BLOCKED

        asyncio.run(scene())
        assert card.verifies == 3, "a blocked card must not be asked again"


def test_nobody_touches_and_no_try_is_lost(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "sc-hsm-bio", options=["--touch-seconds", "0.5"]) as card:
        card.insert()

        async def scene() -> None:
            async with await start("sc-hsm-bio") as worker:
                with pytest.raises(LoginRefused) as refused:
                    await worker.login(None)
                assert (refused.value.reason, refused.value.tries) == (Reason.CARD_TIMEOUT, 3)
                card.tell("auto good")
                assert len((await worker.login(None)).containers) == 2

        asyncio.run(scene())
        assert card.verifies == 2, "one for each login: the first waited for a finger in vain"


def test_wrong_pin_spends_one_try_and_right_pin_signs_with_every_slot(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "piv", ("atlas", "boreal", "cassini")) as card:
        card.insert()

        async def scene() -> None:
            async with await start("piv") as worker:
                wrong, right = bytearray(b"654321"), bytearray(PIN.encode())
                with pytest.raises(LoginRefused) as refused:
                    await worker.login(wrong)
                assert (refused.value.reason, refused.value.tries) == (Reason.CARD_PIN, 2)
                assert card.verifies == 1
                identity = await worker.login(right)
                assert wrong == right == bytes(6), "PIN buffers are wiped"
                assert [container.project for container in identity.containers] == ["atlas", "boreal", "cassini"]
                for container in identity.containers:
                    scheme, signature = await worker.sign(container.key_id, b"content", [P256])
                    key = public_key_of(container.certificate)
                    assert key is not None
                    assert is_signed_by(key, Scheme(scheme), b"content", signature)

        asyncio.run(scene())
        assert card.verifies == 2


def test_rsa_card_signs_with_pss(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "piv", ("atlas",), ["--keys", "rsa2048"]) as card:
        card.insert()

        async def scene() -> None:
            async with await start("piv") as worker:
                (container,) = (await worker.login(bytearray(PIN.encode()))).containers
                scheme, signature = await worker.sign(container.key_id, b"content", [P256, PSS])
                key = public_key_of(container.certificate)
                assert key is not None
                assert is_signed_by(key, Scheme(scheme), b"content", signature)

        asyncio.run(scene())


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_removal_while_the_sensor_waits_ends_the_login(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "sc-hsm-bio") as card:
        card.insert()

        async def scene() -> None:
            worker = await start("sc-hsm-bio")
            login = asyncio.create_task(worker.login(None))
            await asyncio.to_thread(card.expect, "sensor wait")
            card.remove()
            worker.kill()
            with pytest.raises(Refusal) as refused:
                await login
            assert refused.value.reason is Reason.CARD_FAILED
            await worker.close()
            assert not is_alive(worker.pid)

        asyncio.run(scene())
        assert card.verifies == 1


def test_removal_in_a_session_ends_signing(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "piv") as card:
        card.insert()

        async def scene() -> None:
            worker = await start("piv")
            identity = await worker.login(bytearray(PIN.encode()))
            card.remove()
            card.insert(at_once=True)  # the same card again, locked: the old session must not use it
            with pytest.raises(Refusal) as refused:
                await worker.sign(identity.containers[0].key_id, b"content", [P256])
            assert refused.value.reason is Reason.CARD_FAILED
            await worker.close()

        asyncio.run(scene())
        assert "sign" not in card.events


def test_the_worker_leaks_nothing(pcscd: Pcscd) -> None:
    """No PIN in its arguments or environment; no core file, no tracing."""
    with emulated_card(pcscd, "piv") as card:
        card.insert()

        async def scene() -> None:
            async with await start("piv") as worker:
                await worker.login(bytearray(PIN.encode()))
                process = Path(f"/proc/{worker.pid}")
                assert PIN.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                assert "Max core file size        0                    0" in (process / "limits").read_text()
                assert PIN not in " ".join(card.events)
                sockets = [link for link in (process / "fd").iterdir() if str(link.readlink()).startswith("socket:")]
                assert len(sockets) <= 2, "the agent's and PC/SC's, nothing inherited"

        asyncio.run(scene())
