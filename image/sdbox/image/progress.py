"""Progress on stderr: what is being done and how long it takes. Data goes to stdout, elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Progress:
    """Prints a line when a step ends that took long enough to notice; a spinner while it runs on a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._begin = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show `what` while the block runs."""
        begin = time.monotonic()
        with self._console.status(f"{what} ..."):
            yield
        now = time.monotonic()
        self._console.print(f"{now - self._begin:7.1f} s  {what} ({now - begin:.1f} s)")
