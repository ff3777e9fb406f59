"""QEMU's control channel (QMP) for synchronous callers. The only file that imports qemu.qmp.

The library is asyncio: its loop runs in one thread of ours, callers may be any thread.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from sdbox.qemu.deadline import Overdue

if TYPE_CHECKING:
    from collections.abc import Coroutine


class QmpFailed(RuntimeError):
    """QEMU refused a command, or the channel is gone."""


class Qmp:
    """An open QMP session over one end of a socket pair whose other end QEMU holds."""

    def __init__(self, channel: socket.socket, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"qmp {name}", daemon=True)
        self._thread.start()
        self._client = QMPClient(name)
        self._client.logger.setLevel("CRITICAL")  # a machine that ends is told by its process, not by a traceback
        self._channel = channel

    def connect(self, seconds: float) -> None:
        """Negotiate; QmpFailed or Overdue if QEMU does not answer."""
        self._await(self._client.connect(self._channel), "QEMU to answer on QMP", seconds)

    def run(self, command: str, seconds: float = 10.0, **arguments: object) -> Any:  # noqa: ANN401 - JSON as the command defines it
        """Return the reply of `command`; underscores in argument names stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._await(self._client.execute(command, named), f"QMP {command}", seconds)

    def _await(self, work: Coroutine[Any, Any, Any], what: str, seconds: float) -> Any:  # noqa: ANN401
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError as error:
            future.cancel()
            raise Overdue(f"waited {seconds:g} s for {what}") from error
        except (ExecuteError, QMPError) as error:
            raise QmpFailed(f"{what}: {error}") from error

    def close(self) -> None:
        """End the session and the thread, whether or not QEMU is still there."""
        try:
            self._await(self._client.disconnect(), "QMP to close", 2)
        except (QmpFailed, Overdue, EOFError, OSError):
            self._channel.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
