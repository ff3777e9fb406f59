"""What can happen to the agent. Frozen, and safe to log: no PIN, key or secret is ever in an event.

Structs of msgspec: Python compiles the methods of a dataclass when it is imported, half a second for these under
emulation.
"""

from __future__ import annotations

from msgspec import Struct

from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import CardIdentity, Offer
from sdbox.smartcard.values import CardInserted, CardRemoved


class Started(Struct, frozen=True):
    """Everything the agent needs is there."""


class LinkUp(Struct, frozen=True):
    """The TLS connection to the centre stands; the box attests now."""


class Attested(Struct, frozen=True):
    """The gateway accepts this box on this channel."""


class LinkRefused(Struct, frozen=True):
    """No attested channel, and why. The link goes on trying."""

    reason: Reason


class LinkLost(Struct, frozen=True):
    """The attested channel is gone: with it every right it gave."""

    reason: Reason


class SessionRevoked(Struct, frozen=True):
    """The gateway ended the session."""

    session: str
    reason: Reason


class FingerAwaited(Struct, frozen=True):
    """The card waits for a finger: one VERIFY begins. `tries` are left, None if the card does not tell."""

    tries: int | None


class PinAwaited(Struct, frozen=True):
    """The card needs its PIN."""

    tries: int | None


class LastFinger(Struct, frozen=True):
    """One more wrong finger blocks the card: nothing happens until the user confirms. `refused`: what came before."""

    tries: int | None
    refused: Reason | None = None


class LastPin(Struct, frozen=True):
    """The same for a PIN."""

    tries: int | None
    refused: Reason | None = None


class FingerRefused(Struct, frozen=True):
    """Wrong finger or none in time: nothing more happens until the user says so (S7)."""

    reason: Reason
    tries: int | None


class PinRefused(Struct, frozen=True):
    """Wrong PIN: nothing more happens until the user says so (S7)."""

    reason: Reason
    tries: int | None


class CardRefused(Struct, frozen=True):
    """This card cannot be used until it is taken out."""

    reason: Reason


class Verified(Struct, frozen=True):
    """The card accepted its holder."""

    card: CardIdentity


class Offered(Struct, frozen=True):
    """What the gateway offers for this card."""

    offers: tuple[Offer, ...]


class DesktopShown(Struct, frozen=True):
    """The desktop of the picked project is on the screen."""


class ProjectRefused(Struct, frozen=True):
    """The picked project could not be opened, or its desktop broke."""

    reason: Reason


class DesktopEnded(Struct, frozen=True):
    """The user signed out of the desktop."""


class Pick(Struct, frozen=True):
    """The user picked a project."""

    project: str


class FreshPick(Struct, frozen=True):
    """The user picked a project whose bubble wants its holder verified for it alone."""

    project: str


class SubmitPin(Struct, frozen=True):
    """The user gave the PIN; the agent holds it elsewhere, an event may be logged."""


class Cancel(Struct, frozen=True):
    """The user wants to leave this step."""


class Acknowledge(Struct, frozen=True):
    """The user has read the refusal and wants to go on."""


class Confirm(Struct, frozen=True):
    """The user wants the card's last try to be spent."""


class SwitchKey(Struct, frozen=True):
    """The picker key was pressed."""


class CardExpired(Struct, frozen=True):
    """The card's session has lasted long enough, or nobody was there: CARD_LIMIT or CARD_IDLE."""

    reason: Reason


class WipedLocked(Struct, frozen=True):
    """Everything of the session is gone, the card is still in: its session was too long, or idle."""


class WipedIdle(Struct, frozen=True):
    """Everything of the session is gone; there is no card."""


class WipedOffline(Struct, frozen=True):
    """Everything of the session is gone; there is no attested channel."""


class WipedRefused(Struct, frozen=True):
    """Everything of the session is gone, the card is still in, and there is a reason to show."""


class WipedReady(Struct, frozen=True):
    """Everything of the session is gone; the card is still in and verified."""


class Broken(Struct, frozen=True):
    """Something raised what nobody expected. In no row of the table: it leads to FAILED from everywhere."""


LinkEvent = LinkUp | Attested | LinkRefused | LinkLost | SessionRevoked
CardStep = (
    FingerAwaited | PinAwaited | LastFinger | LastPin | FingerRefused | PinRefused | CardRefused | Verified | Offered
)
ProjectStep = DesktopShown | ProjectRefused | DesktopEnded
UserEvent = Pick | FreshPick | SubmitPin | Cancel | Acknowledge | Confirm | SwitchKey
Wiped = WipedLocked | WipedIdle | WipedOffline | WipedRefused | WipedReady
Event = (
    Started | LinkEvent | CardInserted | CardRemoved | CardExpired | CardStep | ProjectStep | UserEvent | Wiped | Broken
)
