"""What is made once and kept: whole or not at all, by one process at a time, and only where there is room for it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

GIGABYTE = 1 << 30
# Free bytes that a thing of a kind takes while it is made, with what is fetched and thrown away meanwhile.
STATE_ROOM = GIGABYTE // 10  # keys and the bench's TPM
TOOLS_ROOM = 2 * GIGABYTE
IMAGE_ROOM = {"base": 2 * GIGABYTE, "trimmed": GIGABYTE, "root": GIGABYTE, "image": GIGABYTE}


class CanNotMake(RuntimeError):
    """Something that the build host needs can not be made; the text is one line and says what to do."""


def make_once(result: Path, make: Callable[[Path], None], *, lock: Path, room: int = 0) -> bool:
    """Make the folder `result` unless it is there; return whether it had to be made.

    `make` fills a new, empty folder beside it, which gets the name once it is whole. Of two processes the second waits
    at `lock` for the first one's result. CanNotMake if fewer than `room` bytes are free.
    """
    if result.exists():
        return False
    lock.parent.mkdir(parents=True, exist_ok=True)
    result.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if result.exists():
            return False
        partial = result.with_name(f"{result.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)  # left by a process that was killed; the lock says that it is nobody's
        require_room(result, room)
        partial.mkdir()
        try:
            make(partial)
            partial.rename(result)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def require_room(path: Path, room: int) -> None:
    """Refuse to make `path` where fewer than `room` bytes are free."""
    free = free_bytes(path)
    if free < room:
        raise CanNotMake(
            f"{path} needs {room / GIGABYTE:.1f} GB of free disk space, {free / GIGABYTE:.1f} are left: free some, "
            "or set SDBOX_CACHE to a folder elsewhere"
        )


def free_bytes(path: Path) -> int:
    """Return what is free where `path` is or will be; 0 for a place that this user may not look at."""
    existing = next(each for each in (path.absolute(), *path.absolute().parents) if os.access(each, os.F_OK))
    return shutil.disk_usage(existing).free
