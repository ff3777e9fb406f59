"""The end of a session, in the order of what matters most: picture, keys, tunnel, card; then the centre is told (S6).

The client is killed first; while the kernel takes it apart, the keys are overwritten. Each step is tried even if one
before it failed: a client that does not die is no reason to keep a key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from sdbox.agent import journal
from sdbox.agent.card import CardSeat
from sdbox.agent.session import Door
from sdbox.protocol.reasons import Refusal
from sdbox.protocol.values import WipeReport

CARD_REMOVED: Final = "card-removed"
USER: Final = "user"
SWITCH: Final = "switch"
LIMIT: Final = "limit"
FAILED: Final = "failed"


async def wipe(cause: str, noticed: float, door: Door, seat: CardSeat | None) -> WipeReport:
    """End everything of the session; `seat` only if the card's ends too. `noticed`: time.monotonic() of the cause.

    Refusal(INTERNAL) if something is left: the box must then not go on.
    """
    door.kill_picture()
    if seat is not None and cause == CARD_REMOVED:
        seat.kill()
    errors: list[Refusal] = []
    picture_gone, keys_wiped = await asyncio.gather(
        _until(door.picture_gone, noticed, errors), _until(door.silence, noticed, errors)
    )
    journal.phase("closed")
    await _try(door.shut, errors)
    journal.phase("wiped")
    await _try(door.tidy, errors)
    if seat is not None:
        await _try(seat.close, errors)
    journal.note(f"wipe cause={cause} picture-gone-ms={picture_gone:.1f} keys-wiped-ms={keys_wiped:.1f}")
    if errors:
        raise errors[0]
    return WipeReport(cause, picture_gone, keys_wiped)


async def _until(action: Callable[[], Awaitable[None]], noticed: float, errors: list[Refusal]) -> float:
    """Try `action` and return the milliseconds from `noticed` to its end."""
    await _try(action, errors)
    return _since(noticed)


async def _try(action: Callable[[], Awaitable[None]], errors: list[Refusal]) -> None:
    try:
        await action()
    except Refusal as refusal:
        journal.explain(refusal)
        errors.append(refusal)


def _since(moment: float) -> float:
    return (time.monotonic() - moment) * 1000
