"""Waiting: every wait has a deadline and says what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Overdue(TimeoutError):
    """Something did not happen in time; the text names it and what was seen instead."""


def wait_for(probe: Callable[[], T | None], what: str, seconds: float, *, interval: float = 0.02) -> T:
    """Return the first answer of `probe` that is neither None nor False; Overdue (naming `what`) after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        last_try = time.monotonic() >= end  # read before the probe: a late answer still counts
        answer = probe()
        if answer is not None and answer is not False:
            return answer
        if last_try:
            raise Overdue(f"waited {seconds:g} s for {what}")
        time.sleep(interval)
