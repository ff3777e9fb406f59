"""A storm at the card reader: cards in and out at random moments, swapped, pulled within a command, the reader too.

What must be true is checked from outside. After each gust the screen shows what the last card asks for; a removal ends
the session it falls into and leaves no tunnel peer; and no card compares more often than a finger was given (S7).
Two cards take turns, one that asks for a finger and one for a PIN: the screen tells which of them the box holds.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.lab import Lab
from sdbox.bench.sight import classify, desktop
from sdbox.bench.stand import Card
from sdbox.qemu.card import CardProcess
from sdbox.qemu.deadline import Overdue, wait_for

CARD: Final = Card("sc-hsm-bio", ("atlas", "boreal"), ("--other", "piv:atlas", "--touch-seconds", "55"))
CALM_SECONDS: Final = 45.0
PEER_SECONDS: Final = 2.0
STALL_SECONDS: Final = 6.0
STALLS: Final = 20  # an insertion asks this card about so many commands until it waits for a finger
GUST: Final = (12, 24)  # events without a look at what came of them
SESSIONS: Final = 0.5  # of the gusts end with one
PAUSE: Final = 0.25  # seconds, the mean of an exponential distribution
LONGEST_PAUSE: Final = 2.0
EVENTS: Final = {"card in", "card out", "reader in", "reader out"}


class Storm:
    """One storm at a box that asks for a card. The same seed gives the same acts; how they meet the box differs."""

    def __init__(self, hands: Hands, card: CardProcess, lab: Lab, seed: int) -> None:
        self._hands, self._card, self._lab = hands, card, lab
        self._chance = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self._since = card.mark()
        self._console = hands.machine.console.mark()
        self._plugged, self._inside, self._first = True, False, True
        self._touched = False  # since the card went in
        self._touches = 0
        self.tally: Counter[str] = Counter()

    def blow(self, events: int, told: Callable[[str], None] = lambda _: None) -> None:
        """Go on for so many insertions, removals and unpluggings, then leave the reader empty; Unexpected if lost."""
        while self.events() < events:
            for _ in range(self._chance.randint(*GUST)):
                self._act()
                time.sleep(min(self._chance.expovariate(1 / PAUSE), LONGEST_PAUSE))
            self._calm("after a gust")
            if self._chance.random() < SESSIONS:
                self._session()
            told(f"{self.events()} events, {self.tally['sessions']} sessions")
        self._come_out()
        self._calm("at the end")
        self.tally["refused"] = len(self._hands.machine.console.refusals(self._console))

    def warm_up(self) -> None:
        """Do everything once: what is loaded or opened then is no leak."""
        self._torn()
        self._session()
        self._come_out()
        self._calm("after the first session")

    def events(self) -> int:
        """Return how many insertions, removals and unpluggings the emulated reader has reported."""
        return sum(text in EVENTS for text in self._said())

    def _said(self) -> list[str]:
        return [text for text, _ in self._card.events(self._since)]

    def _tell(self, command: str, *events: str) -> None:
        mark = self._card.mark()
        self._card.tell(command)
        for event in events:
            self._card.wait_event(event, since=mark)
        self.tally[command.partition(" ")[0]] += 1

    def _act(self) -> None:
        if not self._plugged:
            self._chance.choice([self._plug, self._plug, self._take_out if self._inside else self._put_in])()
        elif self._inside:
            self._chance.choices([self._take_out, self._swap, self._unplug, self._touch], [6, 2, 1, 1])[0]()
        else:
            self._chance.choices([self._put_in, self._torn, self._unplug], [7, 2, 1])[0]()

    def _put_in(self) -> None:
        self._tell("insert", "card in")
        self._inside, self._touched = True, False

    def _take_out(self) -> None:
        self._tell("remove", "card out")
        self._inside = False

    def _swap(self) -> None:
        """Half of the swaps take no time at all: no hand is that quick, and a slow box is as blind."""
        if self._inside and self._chance.random() < 0.5:
            self._take_out()
            time.sleep(self._chance.random() / 2)
            self._swap_at_once()
            self._put_in()
        else:
            self._swap_at_once()

    def _swap_at_once(self) -> None:
        self._tell("swap", *(("card out", "card in") if self._inside else ()))
        self._first, self._touched = not self._first, False

    def _unplug(self) -> None:
        self._tell("unplug", "reader out")
        self._plugged = self._touched = False

    def _plug(self) -> None:
        self._tell("plug", "reader in")
        self._plugged = True

    def _touch(self) -> None:
        """A finger at any moment: it counts only if the card waits for one."""
        self._card.touch("good")
        self._touches += 1
        self._touched = True

    def _torn(self) -> None:
        """Put the card in and have it gone in the middle of a command."""
        mark = self._card.mark()
        self._card.tell(f"stall {self._chance.randrange(STALLS)}")
        self._put_in()
        self._gone_while_stalled(mark)

    def _gone_while_stalled(self, mark: int) -> None:
        try:
            self._card.wait_event("stalled", STALL_SECONDS, since=mark)
            self.tally["torn"] += 1
        except Overdue:  # the box asked for less
            self._card.tell("stall off")
        self._chance.choice([self._take_out, self._swap, self._unplug])()

    def _expected(self) -> Collection[str]:
        if not (self._plugged and self._inside):
            return ("insert-card",)
        if not self._first:
            return ("pin",)
        return ("finger", "pick") if self._touched else ("finger",)

    def _calm(self, when: str) -> None:
        wanted = self._expected()
        what = f"{' or '.join(wanted)} {when} ({self._said()[-8:]})"
        self._hands.machine.wait_pixels(lambda image: classify(image) in wanted, what, CALM_SECONDS)
        wait_for(lambda: self._lab.peers() == 0, f"the tunnel peers to go {when}", PEER_SECONDS)
        said = self._said()
        if (tries := sum(text.startswith("verify ") for text in said)) > self._touches:
            raise Unexpected(f"{tries} comparisons for {self._touches} touches")
        self.tally["looks"] += 1

    def _session(self) -> None:
        """Open a desktop, and have the card gone: pulled, swapped, unplugged, or within a signature."""
        self._take_the_first()
        hands = self._hands
        if self._expected() == ("finger", "pick"):
            self._take_out()
            self._put_in()
        self._calm("before a session")
        wait_for(self._waits, "the sensor to wait", CALM_SECONDS)
        self._touch()
        hands.see(["pick"])
        hands.pick("atlas")
        self.tally["sessions"] += 1
        time.sleep(self._chance.random())
        if self._chance.random() < 0.3:
            self._torn_while_switching()
        else:
            self._chance.choice([self._take_out, self._swap, self._unplug])()
        hands.machine.wait_pixels(
            lambda image: classify(image) not in {desktop("atlas"), "connecting", "picker"}, "the desktop to go", 10
        )
        self._calm("after a session")

    def _torn_while_switching(self) -> None:
        mark = self._card.mark()
        self._card.tell("stall 0")
        self._hands.machine.press("pause")
        self._hands.see(["picker"])
        self._hands.machine.press("2")
        self._gone_while_stalled(mark)

    def _take_the_first(self) -> None:
        if not self._plugged:
            self._plug()
        if not self._first:
            self._swap()
        if not self._inside:
            self._put_in()

    def _waits(self) -> bool:
        said = [text for text in self._said() if text.startswith("sensor ") and text != "sensor off"]
        return said[-1:] == ["sensor wait"]

    def _come_out(self) -> None:
        if self._inside:
            self._take_out()
        if not self._plugged:
            self._plug()
        if not self._first:
            self._swap()
