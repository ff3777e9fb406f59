"""The box's serial console: a growing file, followed and read for the agent's phase, state and refusal lines."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sdbox.qemu.deadline import Overdue, wait_for

PHASE = re.compile(r"sdbox-phase (?P<name>[a-z-]+) (?P<seconds>\d+\.\d+)")
STATE = re.compile(r"sdbox-state (?P<name>[a-z-]+)")
REFUSED = re.compile(r"sdbox-refused (?P<name>[a-z-]+)")


class BoxRefused(RuntimeError):
    """The box refused something (`code`) while a success was waited for."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"refused with {code} while waiting for {what}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Line:
    """One complete console line; `seen` is the host's monotonic clock when it was read."""

    text: str
    seen: float


@dataclass(frozen=True, slots=True)
class Phase:
    """One `sdbox-phase` line: `seconds` by the box's boot clock, `seen` by the host's monotonic clock."""

    name: str
    seconds: float
    seen: float


class Console:
    """Follows `path` in a thread between `start` and `stop`. Positions (`mark`) count complete lines.

    `alive` is called in every wait and raises if the machine is gone: a wait for a dead machine ends at once.
    """

    def __init__(self, path: Path, alive: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._alive = alive
        self._lines: list[Line] = []
        self._rest = b""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="console", daemon=True)

    def start(self) -> None:
        """Begin to follow; the file may not exist yet."""
        self._thread.start()

    def stop(self) -> None:
        """Read what is left and end the thread."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def mark(self) -> int:
        """Return the position after the last line so far, for `since`."""
        return len(self._lines)

    def text(self, since: int = 0) -> str:
        """Return the lines from `since` on."""
        return "\n".join(line.text for line in self._lines[since:])

    def phases(self, since: int = 0) -> list[Phase]:
        """Return the phases from `since` on, in order."""
        found = ((PHASE.search(line.text), line) for line in self._lines[since:])
        return [Phase(match["name"], float(match["seconds"]), line.seen) for match, line in found if match]

    def states(self, since: int = 0) -> list[str]:
        """Return the screen states announced from `since` on, in order."""
        return [match["name"] for line in self._lines[since:] if (match := STATE.search(line.text))]

    def refusals(self, since: int = 0) -> list[str]:
        """Return the codes of the refusals from `since` on, in order."""
        return [match["name"] for line in self._lines[since:] if (match := REFUSED.search(line.text))]

    def wait(self, pattern: str | re.Pattern[str], seconds: float, *, since: int = 0) -> re.Match[str]:
        """Return the first match of `pattern` in a line from `since` on; Overdue with the last lines otherwise."""
        wanted = re.compile(pattern)
        try:
            return wait_for(lambda: self._find(wanted, since), f"console line /{wanted.pattern}/", seconds)
        except Overdue as error:
            raise Overdue(f"{error}; the console's end:\n{self.text()[-1500:]}") from error

    def wait_phase(self, name: str, seconds: float, *, since: int = 0) -> Phase:
        """Return the first phase `name` from `since` on; BoxRefused at once if the box refuses meanwhile."""
        self._wait_unrefused(rf"sdbox-phase {re.escape(name)} ", seconds, since)
        return next(phase for phase in self.phases(since) if phase.name == name)

    def wait_state(self, name: str, seconds: float, *, since: int = 0) -> None:
        """Wait for screen state `name`; BoxRefused at once if the box refuses meanwhile."""
        self._wait_unrefused(rf"sdbox-state {re.escape(name)}\b", seconds, since)

    def wait_refused(self, seconds: float, *, since: int = 0) -> str:
        """Return the reason code of the first refusal from `since` on."""
        return self.wait(REFUSED, seconds, since=since)["name"]

    def _wait_unrefused(self, pattern: str, seconds: float, since: int) -> None:
        match = self.wait(rf"{pattern}|{REFUSED.pattern}", seconds, since=since)
        if match["name"]:
            raise BoxRefused(match["name"], pattern)

    def _find(self, wanted: re.Pattern[str], since: int) -> re.Match[str] | None:
        for line in self._lines[since:]:
            if match := wanted.search(line.text):
                return match
        self._alive()
        return None

    def _follow(self) -> None:
        position = 0
        while True:
            stopping = self._stopped.wait(0.01)
            if self.path.exists():
                with self.path.open("rb") as file:
                    file.seek(position)
                    position += self._take(file.read())
            if stopping:
                return

    def _take(self, data: bytes) -> int:
        *complete, self._rest = (self._rest + data).split(b"\n")
        now = time.monotonic()
        self._lines += [Line(line.rstrip(b"\r").decode(errors="replace"), now) for line in complete]
        return len(data)
