"""What the card part tells the agent: reader events, how a holder is verified, and why that was refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sdbox.protocol.reasons import Reason, Refusal


@dataclass(frozen=True, slots=True)
class CardInserted:
    """A card answered in `reader`; `atr` is its answer to reset (ISO 7816-3, clause 8)."""

    reader: str
    atr: bytes


@dataclass(frozen=True, slots=True)
class CardRemoved:
    """The card that was in `reader` is gone, or the reader is, or the PC/SC service that watched it."""

    reader: str


CardEvent = CardInserted | CardRemoved


class LoginMethod(StrEnum):
    """How a holder proves who they are."""

    FINGER = "finger"  # on the card's own sensor, or on the box's
    PIN = "pin"


@dataclass(frozen=True, slots=True)
class LoginStatus:
    """The card's retry counter. `tries` is None if the card does not tell; `final_try`: one more mistake blocks it."""

    method: LoginMethod
    tries: int | None
    final_try: bool
    blocked: bool


class LoginRefused(Refusal):
    """The card did not accept its holder, and `tries` are left: CARD_FINGER, CARD_PIN or CARD_BLOCKED.

    CARD_TIMEOUT, CARD_SENSOR and CARD_UNCLEAR: it was not even asked, and no try is spent.

    CARD_LAST_TRY: it was not asked, as one more mistake would block it. `final_try` says that of the next login.
    """

    def __init__(self, reason: Reason, tries: int | None, detail: str = "", *, final_try: bool | None = None) -> None:
        super().__init__(reason, detail)
        self.tries = tries
        self.final_try = tries == 1 if final_try is None else final_try
