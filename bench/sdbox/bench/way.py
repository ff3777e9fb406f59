"""The main job: power on, card, finger, first project, switch to the second, pull the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdbox.bench.bubble import ATLAS, BOREAL
from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.timeline import Timeline

if TYPE_CHECKING:
    from sdbox.bench.lab import Lab

DEVELOPMENT_PIN = "123456"
PROJECTS = ("atlas", "boreal", "cassini")  # cassini has a container on the card and no bubble at the centre


@dataclass(frozen=True, slots=True)
class WayResult:
    """What the way showed. `seen` are the screens in order, by their pixels."""

    timeline: Timeline
    pictures: Path
    seen: tuple[str, ...]
    peers_left: int  # WireGuard peers at the gateway at the end
    ended: bool = True  # the card was pulled: no peer may be left


def scripted(hands: Hands, lab: Lab, walk: Callable[[], tuple[str, ...]]) -> WayResult:
    """Do `walk`, which returns the screens that it saw, instead of the whole way."""
    seen = walk()
    ended = seen[-1:] == ("insert-card",)
    if ended:
        hands.settle("wiped")
    return WayResult(hands.timeline, hands.pictures, seen, lab.peers(), ended)


def go(hands: Hands, lab: Lab) -> WayResult:
    """Walk the whole way; Unexpected if the screen shows anything else than it should."""
    hands.projects = PROJECTS
    hands.wait_ready()
    seen = ["insert-card"]
    asked = hands.insert()
    if asked == "finger":
        hands.keep(hands.machine.screenshot(), "finger")
        asked = hands.finger()
    elif asked == "pin":
        hands.keep(hands.machine.screenshot(), "pin")
        asked = hands.pin(DEVELOPMENT_PIN)
    if asked != "pick":
        raise Unexpected(f"the card was refused: {hands.last_code()}")
    hands.keep(hands.machine.screenshot(), "pick")
    seen += [hands.pick(ATLAS.project, picture="desktop-atlas")]
    seen += [hands.switch(BOREAL.project, picture="desktop-boreal")]
    seen += [hands.remove(picture="locked")]
    hands.settle("wiped")
    return WayResult(hands.timeline, hands.pictures, tuple(seen), lab.peers())
