"""The job: cancelled once, so that it can clean up; and what is begun whole is never cut short."""

from __future__ import annotations

import asyncio

from sdbox.agent.events import Event, Started, WipedReady
from sdbox.agent.jobs import Jobs, Post, whole


class Cleaner:
    """Work that takes several turns of the loop to clean up once it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.cleaned, self.cut = asyncio.Event(), False, False

    async def work(self, _post: Post) -> None:
        try:
            self.begun.set()
            await asyncio.get_running_loop().create_future()
        finally:
            try:
                for _ in range(10):
                    await asyncio.sleep(0)
                self.cleaned = True
            except asyncio.CancelledError:
                self.cut = True
                raise


async def nothing(_post: Post) -> None:
    return


def test_a_job_that_cleans_up_is_not_cancelled_again() -> None:
    async def scene() -> Cleaner:
        jobs, cleaner = Jobs(lambda _number, _event: None), Cleaner()
        jobs.start(cleaner.work)
        await cleaner.begun.wait()
        jobs.start(nothing)
        await asyncio.sleep(0)
        jobs.start(nothing)
        jobs.cancel()
        await jobs.settled()
        return cleaner

    cleaner = asyncio.run(scene())
    assert (cleaner.cleaned, cleaner.cut) == (True, False)


def test_what_is_begun_whole_is_done_even_if_it_had_not_its_turn_yet() -> None:
    async def scene() -> tuple[list[int], list[tuple[int | None, Event]]]:
        done: list[int] = []
        told: list[tuple[int | None, Event]] = []
        jobs = Jobs(lambda number, event: told.append((number, event)))

        async def wipe(post: Post) -> None:
            await asyncio.sleep(0)
            done.append(1)
            post(WipedReady())

        async def after(post: Post) -> None:
            done.append(2)
            post(Started())

        cleaner = Cleaner()
        jobs.start(cleaner.work)
        await cleaner.begun.wait()
        jobs.start(wipe, whole=True)
        jobs.start(after)
        await jobs.settled()
        return done, [(number, event) for number, event in told if number == jobs.current]

    assert asyncio.run(scene()) == ([1, 2], [(3, Started())])


def test_whole_goes_only_when_its_work_is_done() -> None:
    async def scene() -> bool:
        done = asyncio.Event()

        async def work() -> None:
            for _ in range(10):
                await asyncio.sleep(0)
            done.set()

        task = asyncio.ensure_future(whole(work()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return done.is_set()

    assert asyncio.run(scene())
