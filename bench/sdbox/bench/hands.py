"""The researcher's hands and eyes: act on the box, then wait until its screen shows what came of it.

Nothing here asks the agent: what counts is what a person would see, checked by pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from PIL import Image

from sdbox.bench.sight import classify, desktop
from sdbox.bench.timeline import Timeline
from sdbox.qemu.deadline import Overdue
from sdbox.qemu.machine import Machine

SEE_SECONDS = 60.0
BOOT_SECONDS = 420.0  # 15 to 25 where the machine is not shared
BOOTED = r"sdbox-(state insert-card|refused )"  # on the console
AFTER_CARD = ("finger", "pin", "pick", "refused")
AFTER_LOGIN = ("pick", "refused")


class Unexpected(RuntimeError):
    """The screen showed something else than was expected; the text says what, with the box's last refusal code."""


class CardAtHand(Protocol):
    """A card near the reader, or a token; see `sdbox.qemu.card.CardProcess`."""

    def insert(self) -> float: ...
    def remove(self) -> float: ...
    def touch(self, finger: str) -> None: ...
    def stop(self) -> None: ...
    def mark(self) -> int: ...
    def events(self, since: int = 0) -> Sequence[tuple[str, float]]: ...
    def wait_event(self, event: str, seconds: float = 10.0, *, since: int = 0) -> float: ...


class Hands:
    """One researcher at one box. `projects` are those on the card; the picker lists them by name."""

    def __init__(self, machine: Machine, card: CardAtHand, timeline: Timeline, pictures: Path) -> None:
        self.machine, self.card, self.timeline = machine, card, timeline
        self.pictures = pictures
        self.projects: tuple[str, ...] = ()
        self._phases = machine.console.mark()
        self._touched = 0  # the card's events up to the last touch
        pictures.mkdir(parents=True, exist_ok=True)

    def see(
        self,
        wanted: Collection[str],
        seconds: float = SEE_SECONDS,
        *,
        picture: str = "",
        booting: bool = False,
    ) -> str:
        """Wait until the screen shows one of `wanted` and return which; a refusal that is not wanted ends the wait.

        `booting`: a boot is long and each look stops it, so look once the box says that there is something to see.
        """
        stop = {*wanted, "refused"}
        what = " or ".join(sorted(wanted))
        try:
            if booting:
                self.machine.wait_console(BOOTED, seconds)
            image = self.machine.wait_pixels(lambda image: classify(image) in stop, what, seconds)
        except Overdue as error:
            raise Unexpected(f"{error}; the box's console ends:\n{self.machine.console.text()[-1200:]}") from error
        seen = classify(image) or ""
        self.timeline.mark(f"screen: {seen}", "screen")
        self.note_phases()
        if picture:
            self.keep(image, picture)
        if seen not in wanted:
            raise Unexpected(f"the box refused ({self.last_code()}) while waiting for {what}")
        return seen

    def keep(self, image: Image.Image, name: str) -> Path:
        """Save a screenshot as `name`.png and return where."""
        path = self.pictures / f"{name}.png"
        image.save(path, optimize=True)
        return path

    def last_code(self) -> str:
        """Return the reason code of the newest refusal on the box's console, or "no code"."""
        words = [line.split() for line in self.machine.console.text().splitlines() if "sdbox-refused " in line]
        return words[-1][words[-1].index("sdbox-refused") + 1] if words else "no code"

    def note_phases(self) -> None:
        """Put the agent's new phase lines on the timeline, dated when they reached the console."""
        mark = self.machine.console.mark()
        for phase in self.machine.console.phases(self._phases):
            self.timeline.mark(phase.name, "box", at=phase.seen)
        self._phases = mark

    def wait_ready(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until the box asks for a card."""
        self.see(["insert-card"], seconds, picture="insert-card", booting=True)

    def wait_back(self, seconds: float = SEE_SECONDS) -> None:
        """Wait until a box that had lost its centre asks for a card again; Enter makes it try at once."""
        self.machine.press("ret")
        self.machine.wait_pixels(
            lambda image: classify(image) == "insert-card", "insert-card after a lost link", seconds
        )
        self.note_phases()

    def acknowledge(self, following: str, seconds: float = SEE_SECONDS) -> None:
        """Press Enter on a refusal and wait for what follows it."""
        self.machine.press("ret")
        self.machine.wait_pixels(lambda image: classify(image) == following, f"{following} after Enter", seconds)
        self.note_phases()

    def insert(self, wanted: Collection[str] = AFTER_CARD) -> str:
        """Put the card in; returns what the box then asks for."""
        self.timeline.mark("card inserted", "bench", at=self.card.insert())
        return self.see(wanted)

    def finger(self, finger: str = "good", wanted: Collection[str] = AFTER_LOGIN) -> str:
        """Touch the sensor once, as soon as it waits: the card's own or the box's, the same process is both."""
        self.card.wait_event("sensor wait", 30, since=self._touched)
        self._touched = self.card.mark()
        self.card.touch(finger)
        self.timeline.mark(f"finger {finger}", "bench")
        return self.see(wanted)

    def pin(self, digits: str, wanted: Collection[str] = AFTER_LOGIN) -> str:
        """Type a PIN on the box's keyboard."""
        self.machine.type_keys(digits)
        self.machine.press("ret")
        self.timeline.mark("PIN typed", "bench")
        return self.see(wanted)

    def pick(self, project: str, wanted: Collection[str] = (), *, picture: str = "") -> str:
        """Pick `project` in the list by its number; waits for its desktop if nothing else is wanted."""
        self.machine.press(str(sorted(self.projects).index(project) + 1))
        self.timeline.mark(f"pick {project}", "bench")
        return self.see(wanted or [desktop(project)], picture=picture)

    def switch(self, project: str, *, picture: str = "") -> str:
        """Bring the picker over the desktop, card still in, and pick `project`."""
        self.machine.press("pause")
        self.see(["picker"], picture=picture and f"{picture}-picker")
        return self.pick(project, picture=picture)

    def remove(self, wanted: Collection[str] = ("insert-card",), *, picture: str = "") -> str:
        """Pull the card and wait until the box is locked again; a refusal that was shown before is none of now."""
        refused = classify(self.machine.screenshot()) == "refused"
        self.timeline.mark("card removed", "bench", at=self.card.remove())
        if refused:
            self.machine.wait_pixels(lambda image: classify(image) != "refused", "the refusal to go", SEE_SECONDS)
        return self.see(wanted, picture=picture)

    def settle(self, phase: str, seconds: float = 10.0) -> None:
        """Give the console time for `phase`, so that the timeline is complete; absent phases are simply not there."""
        since = self._phases
        with suppress(Overdue):
            self.machine.console.wait(rf"sdbox-phase {phase} ", seconds, since=since)
        self.note_phases()
