"""Another card of the same kind, put into the place of the one in a session before PC/SC has looked at the reader."""

from __future__ import annotations

import asyncio
import time

import pytest

from sdbox.bench.card_emulated import POLLED, EmulatedCard, emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, running_pcscd
from sdbox.bench.softtoken import PIN
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import variant_named
from tests.service.agent_bench import alive
from tests.service.smartcard_cases import ONLY_ON_THE_HOST, cases

pytestmark = pytest.mark.root
CASES = [one for one in cases() if one[1] == ("host" if one[0] in ONLY_ON_THE_HOST else "box")]


def swap(card: EmulatedCard) -> None:
    time.sleep(POLLED)  # vpcd's reader is polled: the next look must be after the worker's next command
    card.tell("swap")
    card.expect("card in")


@pytest.mark.parametrize(("name", "place"), CASES)
def test_the_session_ends_and_the_other_card_signs_nothing(name: str, place: str) -> None:
    stack = stack_named(place)

    async def login(worker: CardWorker) -> CardIdentity:
        finger = variant_named(name).login.method is LoginMethod.FINGER
        return await worker.login(None if finger else bytearray(PIN.encode()))

    async def scene(card: EmulatedCard) -> None:
        worker = await CardWorker.start(variant_named(name), READER, python=stack.python)
        (container,) = (await login(worker)).containers
        await worker.sign(container.key_id, b"content", SCHEMES)
        await asyncio.to_thread(swap, card)
        signed = card.events.count("sign")
        with pytest.raises(Refusal) as refused:
            await worker.sign(container.key_id, b"content", SCHEMES)
        assert refused.value.reason is Reason.CARD_FAILED
        assert card.events.count("sign") == signed, "nobody has verified anybody to the other card"
        assert not alive(worker.pid)
        await worker.close()

    other = ["--other", f"{name}:boreal"]
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, ("atlas",), other) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        asyncio.run(scene(card))
        assert card.verifies == 1
