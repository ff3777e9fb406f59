"""Who waits for a signature goes first: work in the background has the card's last turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.client_renewal import CardRenewal, PatientSigner
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from tests.service.smartcard_bench import PIN, make_softhsm_token


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
