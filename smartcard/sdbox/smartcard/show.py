"""What a box would see of the card that is in: reader, variant, counter and, after a login, its projects.

`fault` is what the box sees by itself (key usage, dates by its clock, duplicates); the gateway's verdict may differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.frames import wipe
from sdbox.smartcard.judgement import judge
from sdbox.smartcard.monitor import CardMonitor
from sdbox.smartcard.recognise import recognise
from sdbox.smartcard.values import CardEvent, CardInserted

Seen = dict[str, Any]  # ready for JSON


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """One try to verify the holder, the card's last one only if `last_try`. No `repr`: it holds a PIN (S8)."""

    pin: bytearray | None
    last_try: bool = False


def look_at_card(wait: float, login: Login | None) -> Seen:
    """Return what is seen of the first card that is in within `wait` seconds. The PIN is wiped. Raises Refusal."""
    try:
        return asyncio.run(_look(wait, login))
    finally:
        wipe(login.pin if login else None)


async def _look(wait: float, login: Login | None) -> Seen:
    inserted = await first_card(wait)
    variant = await recognise(inserted.reader, inserted.atr)
    async with await CardWorker.start(variant, inserted.reader) as worker:
        status = await worker.status()
        seen: Seen = {
            "reader": inserted.reader,
            "atr": inserted.atr.hex().upper(),
            "variant": variant.name,
            "login": status.method.value,
            "tries": status.tries,
            "blocked": status.blocked,
        }
        if login:
            seen |= _described(await worker.login(login.pin, last_try=login.last_try))
        return seen


async def first_card(wait: float) -> CardInserted:
    """Return the first card that is in within `wait` seconds; Refusal(CARD_FAILED) if there is none."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[CardEvent] = asyncio.Queue()
    with CardMonitor(lambda event: loop.call_soon_threadsafe(events.put_nowait, event)):
        try:
            async with asyncio.timeout(wait):
                while True:
                    event = await events.get()
                    if isinstance(event, CardInserted):
                        return event
        except TimeoutError as error:
            raise Refusal(Reason.CARD_FAILED, f"no card within {wait:g} s") from error


def _described(card: CardIdentity) -> Seen:
    faults = {id(one.container): one.fault for one in judge(card.containers, datetime.now(UTC))}
    containers = [
        {"key": c.key_id.hex(), "label": c.label, "project": c.project, "fault": faults.get(id(c))}
        for c in card.containers
    ]
    return {"serial": card.serial, "containers": containers}


def as_lines(seen: Seen) -> Iterator[str]:
    """Yield the same for people."""
    for name, value in seen.items():
        if name != "containers":
            yield f"{name:<10} {value}"
    for container in seen.get("containers", ()):
        yield f"  {container['key']:<8} {container['project'] or '-'}  {container['fault'] or ''}".rstrip()
