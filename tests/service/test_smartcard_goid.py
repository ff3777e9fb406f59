"""A GoID card with the box's OpenSC: it is believed by its root only, and a finger is read only after that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, running_pcscd
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.cvc import generate_key

pytestmark = pytest.mark.root
FORM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@contextmanager
def goid(*options: str) -> Iterator[EmulatedCard]:
    stack = stack_named("box")
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, "goid", ("atlas",), options) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        yield card


async def login_and_sign() -> None:
    async with await CardWorker.start(variant_named("goid"), READER, python=stack_named("box").python) as worker:
        (container,) = (await worker.login(None)).containers
        assert container.project == "atlas"
        await worker.sign(container.key_id, b"content", [0x0403])


def test_a_card_of_the_site_is_believed() -> None:
    with goid() as card:
        asyncio.run(login_and_sign())
        assert card.events.index("channel") < card.events.index("sensor wait")
        assert "sign" in card.events


def test_a_card_of_another_root_gets_no_finger(tmp_path: Path) -> None:
    """Its device key may be anybody's: what only pretends to be a card must not get a finger."""
    key = tmp_path / "root.key"
    key.write_bytes(generate_key().private_bytes(*FORM))
    with goid("--card-root", str(key)) as card:
        with pytest.raises(Refusal) as refused:
            asyncio.run(login_and_sign())
        assert refused.value.reason is Reason.CARD_UNTRUSTED
        assert not {"channel", "sensor wait"} & set(card.events)
