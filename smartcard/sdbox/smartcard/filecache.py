"""OpenSC's file cache, in memory and only while one card is opened: its sc-hsm driver reads each certificate twice.

OpenSC keeps cached files under XDG_CACHE_HOME, and without it (the worker has no HOME either) keeps none. So nothing
reaches a disk, nothing outlives the opening, and no session sees what another one has read or this one has written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a tmpfs, and the folder in it is ours alone
PREFIX: Final = "sdbox-card-"
VARIABLE: Final = "XDG_CACHE_HOME"


@contextmanager
def file_cache() -> Iterator[None]:
    """Let OpenSC cache what it reads within the block; without a place in memory it caches nothing."""
    _sweep()
    folder = MEMORY / f"{PREFIX}{os.getpid()}"
    try:
        folder.mkdir(0o700)  # fails if anybody was there before: nothing of theirs is read
    except OSError:
        yield
        return
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        _remove(folder)


def _sweep() -> None:
    """Remove what a worker left that was killed while it opened a card; its number may be ours by now."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX)
        gone = pid == str(os.getpid()) or not Path("/proc", pid).exists()
        with contextlib.suppress(OSError):
            if gone and folder.lstat().st_uid == os.geteuid():
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder of ours; shutil would cost a worker's start a twentieth."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        folder.rmdir()
