"""The finger on the card: a touch counts only while a comparison waits for it. One touch, one comparison."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

Report = Callable[[str], None]
ENROLLED: Final = "good"


class Capture(Enum):
    """What came of one wait."""

    MATCH = "match"
    NO_MATCH = "nomatch"
    TIMEOUT = "timeout"  # nobody touched it, or the card was pulled


class Sensor:
    """Waits at most `seconds` for a touch; `auto` is a finger that always lies on it."""

    def __init__(self, report: Report, seconds: float = 10.0) -> None:
        self._report = report
        self._seconds = seconds
        self._condition = threading.Condition()
        self._waiting = False
        self._finger: str | None = None
        self._auto: str | None = None
        self.enrolled: str | None = ENROLLED  # whose finger the card knows

    def touch(self, finger: str) -> bool:
        """Put a finger down; False if the sensor is off, so that it is not noticed."""
        with self._condition:
            if not self._waiting:
                return False
            self._finger = finger
            self._condition.notify()
            return True

    def rest(self, finger: str | None) -> None:
        """Leave a finger on the sensor (None: take it away)."""
        with self._condition:
            self._auto = finger
            self._condition.notify()

    def cancel(self) -> None:
        """End a wait: the card loses its power."""
        with self._condition:
            self._waiting = False
            self._condition.notify()

    def capture(self) -> Capture:
        """Wait for one touch and compare it."""
        finger = self._one_touch()
        capture = Capture.TIMEOUT if finger is None else Capture.MATCH if finger == self.enrolled else Capture.NO_MATCH
        self._report(f"sensor {capture.value}")
        return capture

    def take(self) -> str | None:
        """Wait for one touch and return whose it was; None if nobody touched it."""
        finger = self._one_touch()
        self._report("sensor timeout" if finger is None else "sensor touched")
        return finger

    def _one_touch(self) -> str | None:
        with self._condition:
            self._finger, self._waiting = None, True
        self._report("sensor wait")  # only now: a script that touches at this line must be noticed
        return self._wait()

    def _wait(self) -> str | None:
        deadline = time.monotonic() + self._seconds
        with self._condition:
            while self._waiting and self._finger is None and self._auto is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    break
            finger = (self._finger or self._auto) if self._waiting else None
            self._waiting = False
            return finger
