"""The network namespace `bubble`: one thread lives in it for as long as the agent does.

It has no name in the file system: only this thread and the descriptor keep it, so it is gone with the agent, whatever
happens, and no other process can enter it by a path.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

_T = TypeVar("_T")
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h; os.unshare came with Python 3.12


class Namespace:
    """A new, empty network namespace. `fd` refers to it for setns(2) and for moving a link into it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bubble")
        self.fd: int = self._thread.submit(_enter_new).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave: the kernel removes the namespace and its links once the last process in it is gone."""
        self._thread.shutdown(wait=True)
        os.close(self.fd)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run blocking `work` inside the namespace; one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _enter_new() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"no network namespace: {os.strerror(code)}")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
