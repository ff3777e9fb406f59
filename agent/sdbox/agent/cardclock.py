"""How long a verification of the holder lasts: an idle limit and an absolute one. Time comes in, nothing waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sdbox.protocol.reasons import Reason

PERIOD: Final = 1.0  # seconds between two looks
MINUTE: Final = 60.0
IDLE_MINUTES: Final = 15
SESSION_MINUTES: Final = 600


def seconds_awake_or_not() -> float:
    """Return seconds that go on while the machine sleeps: a box that slept over a limit is past it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class CardClock:
    """Runs from a verification to the end of the card's session; `touch` is somebody being there."""

    def __init__(
        self,
        idle_minutes: float = IDLE_MINUTES,
        session_minutes: float = SESSION_MINUTES,
        *,
        now: Callable[[], float] = seconds_awake_or_not,
        period: float = PERIOD,
    ) -> None:
        self.period = period
        self._idle = idle_minutes * MINUTE
        self._session = session_minutes * MINUTE
        self._now = now
        self._begun: float | None = None
        self._touched = 0.0

    def begin(self) -> None:
        """The holder has just been verified."""
        self._begun = self._touched = self._now()

    def end(self) -> None:
        """No card is logged in any more."""
        self._begun = None

    def touch(self) -> None:
        """Somebody used keyboard, mouse or screen."""
        self._touched = self._now()

    def due(self) -> Reason | None:
        """Return why the card's session must end now, if it must."""
        if self._begun is None:
            return None
        now = self._now()
        if now - self._begun >= self._session:
            return Reason.CARD_LIMIT
        return Reason.CARD_IDLE if now - self._touched >= self._idle else None
