"""What can happen to the agent. Frozen, and safe to log: no PIN, key or secret is ever in an event."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import CardIdentity, Offer
from sdbox.smartcard.values import CardInserted, CardRemoved


@dataclass(frozen=True, slots=True)
class Started:
    """Everything the agent needs is there."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The TLS connection to the centre stands; the box attests now."""


@dataclass(frozen=True, slots=True)
class Attested:
    """The gateway accepts this box on this channel."""


@dataclass(frozen=True, slots=True)
class LinkRefused:
    """No attested channel, and why. The link goes on trying."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The attested channel is gone: with it every right it gave."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class SessionRevoked:
    """The gateway ended the session."""

    session: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class FingerAwaited:
    """The card waits for a finger: one VERIFY begins. `tries` are left, None if the card does not tell."""

    tries: int | None


@dataclass(frozen=True, slots=True)
class PinAwaited:
    """The card needs its PIN."""

    tries: int | None


@dataclass(frozen=True, slots=True)
class LastFinger:
    """One more wrong finger blocks the card: nothing happens until the user confirms. `refused`: what came before."""

    tries: int | None
    refused: Reason | None = None


@dataclass(frozen=True, slots=True)
class LastPin:
    """The same for a PIN."""

    tries: int | None
    refused: Reason | None = None


@dataclass(frozen=True, slots=True)
class FingerRefused:
    """Wrong finger or none in time: nothing more happens until the user says so (S7)."""

    reason: Reason
    tries: int | None


@dataclass(frozen=True, slots=True)
class PinRefused:
    """Wrong PIN: nothing more happens until the user says so (S7)."""

    reason: Reason
    tries: int | None


@dataclass(frozen=True, slots=True)
class CardRefused:
    """This card cannot be used until it is taken out."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Verified:
    """The card accepted its holder."""

    card: CardIdentity


@dataclass(frozen=True, slots=True)
class Offered:
    """What the gateway offers for this card."""

    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class DesktopShown:
    """The desktop of the picked project is on the screen."""


@dataclass(frozen=True, slots=True)
class ProjectRefused:
    """The picked project could not be opened, or its desktop broke."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class DesktopEnded:
    """The user signed out of the desktop."""


@dataclass(frozen=True, slots=True)
class Pick:
    """The user picked a project."""

    project: str


@dataclass(frozen=True, slots=True)
class FreshPick:
    """The user picked a project whose bubble wants its holder verified for it alone."""

    project: str


@dataclass(frozen=True, slots=True)
class SubmitPin:
    """The user gave the PIN; the agent holds it elsewhere, an event may be logged."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The user wants to leave this step."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The user has read the refusal and wants to go on."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """The user wants the card's last try to be spent."""


@dataclass(frozen=True, slots=True)
class SwitchKey:
    """The picker key was pressed."""


@dataclass(frozen=True, slots=True)
class CardExpired:
    """The card's session has lasted long enough, or nobody was there: CARD_LIMIT or CARD_IDLE."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class WipedLocked:
    """Everything of the session is gone, the card is still in: its session was too long, or idle."""


@dataclass(frozen=True, slots=True)
class WipedIdle:
    """Everything of the session is gone; there is no card."""


@dataclass(frozen=True, slots=True)
class WipedOffline:
    """Everything of the session is gone; there is no attested channel."""


@dataclass(frozen=True, slots=True)
class WipedRefused:
    """Everything of the session is gone, the card is still in, and there is a reason to show."""


@dataclass(frozen=True, slots=True)
class WipedReady:
    """Everything of the session is gone; the card is still in and verified."""


@dataclass(frozen=True, slots=True)
class Broken:
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
