"""OpenSC's file cache, in memory and only while one card is opened: its sc-hsm driver reads each certificate twice.

OpenSC keeps cached files under XDG_CACHE_HOME, and without it (the worker has no HOME either) keeps none. So nothing
reaches a disk, nothing outlives the opening, and no session sees what another one has read or this one has written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
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
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=MEMORY))
    except OSError:
        yield
        return
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove what a worker left that was killed while it opened a card."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):  # another user's: not ours to remove
            if not Path("/proc", pid).exists() and folder.stat().st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
