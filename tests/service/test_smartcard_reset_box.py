"""What another process gets of a card that only the box's own modules can use: during a session, and after it."""

from __future__ import annotations

import asyncio

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, running_pcscd
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
