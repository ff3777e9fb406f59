"""The job: the one piece of work that takes time, at most one at once, each under its own number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sdbox.agent import journal
from sdbox.agent.events import Broken, Event

_T = TypeVar("_T")
Post = Callable[[Event], None]
Work = Callable[[Post], Awaitable[None]]


class Jobs:
    """Runs work that reports by posting events under its number; `current` tells which of them still count."""

    def __init__(self, put: Callable[[int | None, Event], None]) -> None:
        self.current = 0
        self._put = put
        self._job: asyncio.Task[None] | None = None  # what `cancel` cancels
        self._tasks: set[asyncio.Task[None]] = set()
        self._asides: set[asyncio.Task[None]] = set()

    def start(self, work: Work, *, whole: bool = False) -> None:
        """Cancel the job there is, and run `work` as soon as that has cleaned up. Returns at once.

        A `whole` one is never cut short: what comes after it waits, and what it still has to say does not count.
        """
        self.cancel()
        number = self.current
        task = asyncio.ensure_future(self._run(work, lambda event: self._put(number, event), set(self._tasks)))
        self._job = None if whole else task
        self._follow(task)

    def cancel(self) -> None:
        """Cancel the job there is, once: it may need a while to clean up. What it still has to say does not count."""
        self.current += 1
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def aside(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Run something short that nothing cancels; whoever must wait for it waits for the task returned."""
        task = asyncio.ensure_future(_plain(work))
        task.add_done_callback(self._check)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)
        return task

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
            journal.broken(error)
            self._put(None, Broken())


async def whole(work: Awaitable[_T]) -> _T:
    """Await `work` to its end: who is cancelled meanwhile waits for that before it goes."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _plain(work: Awaitable[None]) -> None:
    await work
