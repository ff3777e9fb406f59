"""What another process gets of a card that only the box's own modules can use: during a session, and after it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, running_pcscd
from sdbox.protocol.reasons import Refusal
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.variants import variant_named
from tests.service.test_smartcard_reset import SIGN, Thief

pytestmark = pytest.mark.root
P256 = 0x0403
COMMANDS = {"goid": SIGN["sc-hsm-bio"], "yubikey-bio": SIGN["piv"]}
# ykcs11 holds no PC/SC transaction between calls: who may reach pcscd can sign meanwhile.
OPEN_MEANWHILE = {"yubikey-bio"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_thief_during_a_session_and_after_it(name: str) -> None:
    stack = stack_named("box")

    async def scene() -> None:
        async with await CardWorker.start(variant_named(name), READER, python=stack.python) as worker:
            (container,) = (await worker.login(None)).containers
            during = Thief(COMMANDS[name], 3, stack.python)
            await asyncio.sleep(2)
            await worker.sign(container.key_id, b"content", [P256])
        assert bool(await asyncio.to_thread(during.signatures)) is (name in OPEN_MEANWHILE)
        after = Thief(COMMANDS[name], 2, stack.python)
        assert await asyncio.to_thread(after.signatures) == 0

    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, ("atlas",)) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        asyncio.run(scene())


def crash(worker: CardWorker) -> None:
    """Kill the worker in the box's tree: its parent, that the client has started, is what enters the tree."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)


@pytest.mark.parametrize("noticed", ["by closing it", "by a signature"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_worker_that_died_leaves_no_open_card(name: str, noticed: str) -> None:
    """A module may crash. pcscd resets only what a client held when it died, and ykcs11 holds nothing."""
    stack = stack_named("box")

    async def scene() -> None:
        worker = await CardWorker.start(variant_named(name), READER, python=stack.python)
        (container,) = (await worker.login(None)).containers
        crash(worker)
        if noticed == "by a signature":
            with pytest.raises(Refusal):
                await worker.sign(container.key_id, b"content", [P256])
        else:
            await worker.close()
        thief = Thief(COMMANDS[name], 2, stack.python)
        assert await asyncio.to_thread(thief.signatures) == 0
        await worker.close()

    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, ("atlas",)) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        asyncio.run(scene())
