"""What the agent drives, handed to it as one value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sdbox.agent.attest import CentreLink
from sdbox.agent.card import CardSeat
from sdbox.agent.cardclock import CardClock
from sdbox.agent.dbus import AgentInterface
from sdbox.agent.session import Door
from sdbox.smartcard.values import CardInserted


async def _nothing_to_settle() -> None:
    return


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is done while the box waits for a card.

    `settle`, once, when it first does: what a session needs and the way to the centre does not. `expect`, each time.
    """

    settle: Callable[[], Awaitable[None]] = _nothing_to_settle
    expect: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agent drives. `seat` makes the place for an inserted card."""

    screen: AgentInterface
    link: CentreLink
    door: Door
    seat: Callable[[CardInserted], CardSeat]
    clock: CardClock = field(default_factory=CardClock)
    waiting: Waiting = field(default_factory=Waiting)
