"""The retry counter that several references of a card share."""

from __future__ import annotations

from typing import Final

from sdbox.smartcard.virtual.apdu import TRIES_LEFT, Status, word
from sdbox.smartcard.virtual.sensor import Report

MAX_TRIES: Final = 3


class Tries:
    """What is left; stays when the power goes. Each comparison is reported, whichever application made it."""

    def __init__(self, report: Report) -> None:
        self.left = MAX_TRIES
        self._report = report

    def compared(self, *, match: bool) -> bool:
        """Take note of a comparison; return whether it opens the card: nothing opens a blocked one."""
        match = match and self.left > 0
        self.left = MAX_TRIES if match else max(self.left - 1, 0)
        self._report(f"verify tries={self.left}")
        return match

    def answer(self) -> bytes:
        """Return the status word that tells the counter."""
        return word(TRIES_LEFT | self.left if self.left else Status.BLOCKED)
