"""What happened when, from power-on to the wiped screen: collected while it happens, shown as a table or a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment: `seconds` since the start of the timeline; `source` is who saw it (box, bench or screen)."""

    name: str
    seconds: float
    source: str


@dataclass(slots=True)
class Timeline:
    """Marks in the order they were seen. Box marks are dated when their console line arrives at the bench."""

    start: float = field(default_factory=time.monotonic)
    marks: list[Mark] = field(default_factory=list)
    on_mark: Callable[[Mark], None] | None = None

    def mark(self, name: str, source: str, *, at: float | None = None) -> Mark:
        """Add a mark; `at` is a time.monotonic() value, now if left out."""
        mark = Mark(name, (time.monotonic() if at is None else at) - self.start, source)
        self.marks.append(mark)
        if self.on_mark is not None:
            self.on_mark(mark)
        return mark

    def seconds(self, name: str, occurrence: int = 0) -> float:
        """Return when `name` was seen the nth time; KeyError with the names that were."""
        found = [mark.seconds for mark in self.marks if mark.name == name]
        if len(found) <= occurrence:
            raise KeyError(f"no mark {name!r} number {occurrence + 1} among {[mark.name for mark in self.marks]}")
        return found[occurrence]

    def between(self, first: str, last: str, occurrence: int = 0) -> float:
        """Return the seconds from a mark to the first `last` after it."""
        begin = self.seconds(first, occurrence)
        later = [mark.seconds for mark in self.marks if mark.name == last and mark.seconds >= begin]
        if not later:
            raise KeyError(f"no mark {last!r} after {first!r}")
        return min(later) - begin

    def ordered(self) -> list[Mark]:
        """Return the marks by time."""
        return sorted(self.marks, key=lambda mark: mark.seconds)
