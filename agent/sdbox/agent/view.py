"""What the screen is told: one frozen value per state of affairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sdbox.agent.machine import SHOWN, State, has_card
from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import Offer

UNKNOWN: Final = -1
_LAST: Final = (State.LAST_FINGER, State.LAST_PIN)
_COUNTING: Final = (
    *(State.FINGER, State.PIN, State.CHECKING_PIN, State.REFUSED_FINGER, State.REFUSED_PIN),
    *_LAST,
)


@dataclass(frozen=True, slots=True)
class View:
    """The properties of org.sdbox.Agent1 that change."""

    state: str = SHOWN[State.STARTING]
    reason: str = ""
    tries: int = UNKNOWN
    projects: tuple[Offer, ...] = ()
    current: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlasts a state and may be shown in another."""

    reason: Reason | None = None
    tries: int | None = None
    offers: tuple[Offer, ...] = ()
    project: str = ""

    def offer(self, project: str) -> Offer | None:
        """Return what opens `project`; None if nothing does. The gateway opens one container per project at most."""
        return next((offer for offer in self.offers if offer.project == project and offer.reason is None), None)


def view_of(state: State, memory: Memory) -> View:
    """Return what is shown in `state`: nothing of a card that is gone, no reason but in a refusal."""
    reason = memory.reason if SHOWN[state] == "refused" or state in _LAST else None
    if state is State.FAILED:
        reason = Reason.INTERNAL  # not what ended the session that was being wiped
    return View(
        state=SHOWN[state],
        reason=reason.value if reason else "",
        tries=memory.tries if state in _COUNTING and memory.tries is not None else UNKNOWN,
        projects=memory.offers if has_card(state) else (),
        current=memory.project if state in {State.SESSION, State.PICKER} else "",
    )
