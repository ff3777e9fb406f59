"""Who waits for a signature goes first: work in the background has the card's last turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, running_pcscd, sees_card, wait_for
from sdbox.bench.softtoken import PIN
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.certificates import Scheme, is_signed_by, public_key_of
from sdbox.smartcard.client import RESET_DEADLINE, CardWorker
from sdbox.smartcard.client_renewal import CardRenewal, PatientSigner
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import Issuer, KeyKind, Project, fill_containers
from tests.service.smartcard_bench import make_softhsm_token


def test_a_switch_goes_before_a_renewal(tmp_path: Path) -> None:
    make_softhsm_token(tmp_path, fill_containers([Project("atlas"), Project("boreal")], Issuer.create()))

    async def scene() -> list[str]:
        order: list[str] = []
        async with await CardWorker.start(variant_named("softhsm"), "") as worker:
            card = await worker.login(bytearray(PIN.encode()))
            container = card.containers[0]

            async def urgent(name: str) -> None:
                await worker.sign(container.key_id, b"content", SCHEMES)
                order.append(name)

            async def background() -> None:
                await PatientSigner(worker, container).sign(SCHEMES, b"content")
                order.append("patient")
                await CardRenewal(worker, container).new_key()
                order.append("key")

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(urgent("first"))
                await asyncio.sleep(0)  # it has the card now
                tasks.create_task(background())
                await asyncio.sleep(0)
                for number in range(3):
                    tasks.create_task(urgent(f"switch {number}"))
        return order

    assert asyncio.run(scene()) == ["first", "switch 0", "switch 1", "switch 2", "patient", "key"]


def test_a_signature_that_nobody_waits_for_any_more_costs_nothing(tmp_path: Path) -> None:
    """Whoever leaves on the way into a project gives up a signature at any moment of it; the next one is another's."""
    make_softhsm_token(tmp_path, fill_containers([Project("atlas")], Issuer.create()))

    async def scene() -> None:
        async with await CardWorker.start(variant_named("softhsm"), "") as worker:
            (container,) = (await worker.login(bytearray(PIN.encode()))).containers
            key = public_key_of(container.certificate)
            assert key is not None
            for steps in range(8):
                leaving = asyncio.ensure_future(worker.sign(container.key_id, b"left", SCHEMES))
                for _ in range(steps):
                    await asyncio.sleep(0)  # from not begun to half done
                leaving.cancel()
                scheme, signature = await worker.sign(container.key_id, b"picked", SCHEMES)
                assert is_signed_by(key, Scheme(scheme), b"picked", signature)

    asyncio.run(scene())


@pytest.mark.root
def test_a_switch_waits_no_longer_than_for_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that does not come to an end with its key is given up; the switch is refused then, and does not hang."""
    monkeypatch.setattr("sdbox.smartcard.client_renewal.STEP_SECONDS", 2.0)
    with running_pcscd() as pcscd, emulated_card(pcscd, "sc-hsm-bio", ("atlas",)) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        card.tell("auto good")

        async def scene() -> None:
            worker = await CardWorker.start(variant_named("sc-hsm-bio"), READER)
            (container,) = (await worker.login(None)).containers
            card.tell("cut 0")
            making = asyncio.ensure_future(CardRenewal(worker, container).new_key())
            await asyncio.to_thread(card.expect, "cut")
            with pytest.raises(Refusal) as refused:
                async with asyncio.timeout(2.0 + RESET_DEADLINE + 2.0):
                    await worker.sign(container.key_id, b"content", SCHEMES)
            assert refused.value.reason is Reason.CARD_FAILED
            with pytest.raises(Refusal):
                await making
            await worker.close()

        asyncio.run(scene())


def test_no_rsa_key_is_made_beside_a_session(tmp_path: Path) -> None:
    """How long that takes is chance: it can't be bounded, so a switch must not wait behind it."""
    projects = [Project("atlas", kind=KeyKind.RSA2048)]
    make_softhsm_token(tmp_path, fill_containers(projects, Issuer.create()))

    async def scene() -> None:
        async with await CardWorker.start(variant_named("softhsm"), "") as worker:
            (container,) = (await worker.login(bytearray(PIN.encode()))).containers
            with pytest.raises(Refusal) as refused:
                await CardRenewal(worker, container).new_key()
            assert refused.value.reason is Reason.RENEWAL_FAILED
            await worker.sign(container.key_id, b"content", SCHEMES)

    asyncio.run(scene())


@pytest.mark.root
def test_closing_does_not_wait_for_a_key_that_is_being_made() -> None:
    with running_pcscd() as pcscd, emulated_card(pcscd, "sc-hsm-bio", ("atlas",)) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        card.tell("auto good")

        async def scene() -> None:
            worker = await CardWorker.start(variant_named("sc-hsm-bio"), READER)
            (container,) = (await worker.login(None)).containers
            card.tell("cut 0")  # the card never answers the command that makes the key
            making = asyncio.ensure_future(CardRenewal(worker, container).new_key())
            await asyncio.to_thread(card.expect, "cut")
            async with asyncio.timeout(40):
                await worker.close()
            with pytest.raises(Refusal) as refused:
                await making
            assert refused.value.reason is Reason.CARD_FAILED

        asyncio.run(scene())
