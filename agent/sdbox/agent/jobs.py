"""The job: the one piece of work that takes time, at most one at once, each under its own number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sdbox.agent import journal
from sdbox.agent.events import Broken, Event

Post = Callable[[Event], None]
Work = Callable[[Post], Awaitable[None]]


class Jobs:
    """Runs work that reports by posting events under its number; `current` tells which of them still count."""

    def __init__(self, put: Callable[[int | None, Event], None]) -> None:
        self.current = 0
        self._put = put
        self._tasks: set[asyncio.Task[None]] = set()
        self._asides: set[asyncio.Task[None]] = set()

    def start(self, work: Work) -> None:
        """Cancel the job there is, and run `work` as soon as that has cleaned up. Returns at once."""
        self.cancel()
        number = self.current
        task = asyncio.ensure_future(self._run(work, lambda event: self._put(number, event), set(self._tasks)))
        self._follow(task)

    def cancel(self) -> None:
        """Cancel the job there is; what it still has to say does not count."""
        self.current += 1
        for task in self._tasks:
            task.cancel()

    def aside(self, work: Awaitable[None]) -> None:
        """Run something short that nobody waits for and nothing cancels."""
        task = asyncio.ensure_future(_plain(work))
        task.add_done_callback(self._check)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def settled(self) -> None:
        """Wait until nothing runs. What runs has its own deadlines."""
        while running := self._tasks | self._asides:
            await asyncio.wait(running)

    @staticmethod
    async def _run(work: Work, post: Post, older: set[asyncio.Task[None]]) -> None:
        if older:
            await asyncio.wait(older)
        await work(post)

    def _follow(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._check)

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            journal.note(f"broken: {type(error).__name__} in {_where(error)}")
            self._put(None, Broken())


async def _plain(work: Awaitable[None]) -> None:
    await work


def _where(error: BaseException) -> str:
    """Return file and line of the innermost frame: enough to find it, and no value of any variable (S8)."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
