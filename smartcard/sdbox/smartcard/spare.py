"""A card worker that waits for its card, so that an insertion does not wait for an interpreter and its libraries.

It is one process for one card all the same: who takes it gives it a card, and another one is started for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.subprocess import Process
from dataclasses import dataclass
from typing import Self

from sdbox.protocol.reasons import Refusal
from sdbox.smartcard.card_process import Runner


@dataclass(frozen=True, slots=True)
class WaitingWorker:
    """A worker that has not been told of its card. `link` is our end, non-blocking."""

    runner: Runner
    process: Process
    link: socket.socket

    @classmethod
    async def start(cls, runner: Runner) -> Self:
        """Start one; Refusal(CARD_FAILED) if it does not start."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            process = await runner.start("sdbox.smartcard.worker", str(theirs.fileno()), link=theirs.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(runner, process, ours)

    async def end(self) -> None:
        """End it: it has opened no card."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self.link.close()


class Spare:
    """At most one worker that waits. To be used in one event loop."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._starting: asyncio.Future[WaitingWorker] | None = None

    def prepare(self) -> None:
        """See to it that one waits, or will soon; returns at once."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(WaitingWorker.start(self._runner))

    async def take(self) -> WaitingWorker:
        """Return the one that waits, or a new one if none lives; Refusal(CARD_FAILED) if none starts."""
        starting, self._starting = self._starting, None
        if starting is not None:
            with contextlib.suppress(Refusal):
                waiting = await starting
                if waiting.process.returncode is None:
                    return waiting
                await waiting.end()
        return await WaitingWorker.start(self._runner)

    async def close(self) -> None:
        """End the one that waits."""
        starting, self._starting = self._starting, None
        if starting is not None:
            with contextlib.suppress(Refusal):
                await (await starting).end()
