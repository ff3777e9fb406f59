"""After a login the PIN is nowhere in the card worker's memory, but where OpenSC leaves it (S8).

OpenSC (0.23 and 0.26.1) formats every command for its debug log, also when nothing is logged, and frees the text as it
is (sc_apdu_log). So a PIN may stay in freed memory as the right-hand column of such a dump, until that memory is used
again or the worker ends with the card's session. docs/threat-model.md says so.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sdbox.bench.card_places import stack_named
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import variant_named
from tests.contract.card_stage import card_stage
from tests.service.smartcard_cases import cases
from tests.service.worker_memory import memory_of

pytestmark = pytest.mark.root
CARDS = [(name, place) for name, place in cases() if variant_named(name).login.method is LoginMethod.PIN]
PIN = b"80417296"  # nothing else on the host contains it
IN_A_DUMP = re.compile(b"(?:[0-9A-F]{2} )+[ .]*" + PIN)  # hex on the left, text on the right


@contextmanager
def pin_at_hand() -> Iterator[str]:
    """Yield a descriptor's number that the PIN can be read from."""
    descriptor = os.memfd_create("pin")
    try:
        os.pwrite(descriptor, PIN + b"\n", 0)
        yield str(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("name", "place"), CARDS)
def test_the_worker_keeps_no_pin(name: str, place: str) -> None:
    async def scene() -> None:
        async with await stage.start() as worker:
            given = bytearray(PIN)
            (container, *_) = (await worker.login(given)).containers
            await worker.sign(container.key_id, b"content", SCHEMES)
            memory = memory_of(worker.pid)
            assert given == bytes(len(PIN))
            assert container.certificate in memory, "it is the worker's memory that was read"
            assert PIN not in IN_A_DUMP.sub(b"", memory)

    with pin_at_hand() as descriptor, card_stage(name, stack_named(place), ["--pin-fd", descriptor]) as stage:
        asyncio.run(scene())
