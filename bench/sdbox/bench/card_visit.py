"""One insertion of an emulated card, as the box meets it: monitor, recognition, worker, login, signatures; on tape."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sdbox.bench.card_emulated import EmulatedCard
from sdbox.bench.card_reader import sees_card, wait_for
from sdbox.bench.softtoken import PIN
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.monitor import CardMonitor
from sdbox.smartcard.recognise import recognise
from sdbox.smartcard.values import CardEvent, CardInserted, LoginMethod
from sdbox.smartcard.variants import Variant
from sdbox.smartcard.virtual.tape import Taped

EVENT_SECONDS: Final = 10.0
CONTENT: Final = b"content"
END: Final = 16  # bytes of a certificate's signature: its own, and no answer ends among them


@dataclass(frozen=True, slots=True)
class Visit:
    """Seconds from the monitor's event to the first answer and to "ready to sign", and of each signature; the tape."""

    first: float
    ready: float
    signed: tuple[float, ...]
    identity: CardIdentity
    first_tape: tuple[Taped, ...]
    login_tape: tuple[Taped, ...]
    sign_tape: tuple[Taped, ...]  # of the last signature


def visit(card: EmulatedCard, signatures: int, python: Sequence[str] = (sys.executable,)) -> Visit:
    """Insert the card, go up to `signatures` switches between its containers, and pull it; `python` runs the worker."""
    wait_for(lambda: not sees_card(), "PC/SC to see the last card gone")  # else its end is this one's beginning
    try:
        return asyncio.run(_visit(card, signatures, python))
    finally:
        card.remove()


async def _visit(card: EmulatedCard, signatures: int, python: Sequence[str]) -> Visit:
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[tuple[float, CardEvent]] = asyncio.Queue()

    def on_event(event: CardEvent) -> None:
        loop.call_soon_threadsafe(events.put_nowait, (time.perf_counter(), event))

    with CardMonitor(on_event):
        await asyncio.to_thread(card.insert)
        card.tell("auto good")
        card.tape()
        start, inserted = await _inserted(events)
        variant = await asyncio.to_thread(recognise, inserted.reader, inserted.atr)
        async with await CardWorker.start(variant, inserted.reader, python=python) as worker:
            status = await worker.status()
            first, first_tape = time.perf_counter() - start, card.tape()
            finger = status.method is LoginMethod.FINGER
            identity = await worker.login(None if finger else bytearray(PIN.encode()))
            ready, login_tape = time.perf_counter() - start, card.tape()
            taken = await _sign(worker, identity, signatures)
            await worker.sign(identity.containers[0].key_id, CONTENT, SCHEMES)
            card.tape()
            await worker.sign(identity.containers[-1].key_id, CONTENT, SCHEMES)
            sign_tape = card.tape()
    return Visit(first, ready, taken, identity, first_tape, login_tape, sign_tape)


def visit_token(variant: Variant, signatures: int) -> tuple[float, tuple[float, ...]]:
    """Do the same with a token that has no reader; return the seconds to "ready to sign" and of each signature."""

    async def scene() -> tuple[float, tuple[float, ...]]:
        start = time.perf_counter()
        async with await CardWorker.start(variant, "") as worker:
            await worker.status()
            identity = await worker.login(bytearray(PIN.encode()))
            return time.perf_counter() - start, await _sign(worker, identity, signatures)

    return asyncio.run(scene())


async def _sign(worker: CardWorker, identity: CardIdentity, turns: int) -> tuple[float, ...]:
    """Sign with one container after another."""
    taken = []
    for turn in range(turns):
        key = identity.containers[-turn % len(identity.containers)].key_id
        began = time.perf_counter()
        await worker.sign(key, CONTENT, SCHEMES)
        taken.append(time.perf_counter() - began)
    return tuple(taken)


async def _inserted(events: asyncio.Queue[tuple[float, CardEvent]]) -> tuple[float, CardInserted]:
    async with asyncio.timeout(EVENT_SECONDS):
        while True:
            moment, event = await events.get()
            if isinstance(event, CardInserted):
                return moment, event


def times_read(tape: Sequence[Taped], certificate: bytes) -> int:
    """Return how often the card gave the certificate out to its end: a probing read of its beginning is none."""
    return b"".join(taped.answer[:-2] for taped in tape).count(certificate[-END:])
