"""Whether a card's proof is recent and has opened nothing yet: what a bubble with `fresh_finger` asks for.

The card signs a nonce of ours, so the proof is not older than the nonce. It signs nothing about a finger: that the box
ended the card's login and had its holder verified before is the word of attested software (docs/threat-model.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

FRESH_SECONDS: Final = 120.0


class Freshness:
    """One proof, one entry."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: float | None = None

    def given(self) -> None:
        """A card has just proved itself."""
        self._given = self._clock()

    def spend(self) -> bool:
        """Use the proof for an entry; whether it was there, unused and recent."""
        given, self._given = self._given, None
        return given is not None and self._clock() - given <= FRESH_SECONDS
