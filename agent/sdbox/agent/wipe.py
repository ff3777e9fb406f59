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
from sdbox.protocol.values import WipeReport

CARD_REMOVED: Final = "card-removed"
USER: Final = "user"
SWITCH: Final = "switch"
LIMIT: Final = "limit"
FAILED: Final = "failed"

Step = Callable[[], Awaitable[None] | None]


async def wipe(cause: str, noticed: float, door: Door, seat: CardSeat | None) -> WipeReport:
    """End everything of the session; `seat` only if the card's ends too. `noticed`: time.monotonic() of the cause.

    Each step is tried whatever the ones before it raised; then the first error is raised: something may be left, and
    the box must not go on.
    """
    errors: list[Exception] = []
    await _try(door.kill_picture, errors)
    if seat is not None and cause == CARD_REMOVED:
        await _try(seat.kill, errors)
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


async def _until(action: Step, noticed: float, errors: list[Exception]) -> float:
    """Try `action` and return the milliseconds from `noticed` to its end."""
    await _try(action, errors)
    return _since(noticed)


async def _try(action: Step, errors: list[Exception]) -> None:
    try:
        if (rest := action()) is not None:
            await rest
    except Exception as error:  # noqa: BLE001 - raised at the end: a key is not kept for whatever went wrong with another
        journal.broken(error)
        errors.append(error)


def _since(moment: float) -> float:
    return (time.monotonic() - moment) * 1000
