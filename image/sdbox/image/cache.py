"""Results kept by fingerprint below the cache folder. A result appears under its name only when it is whole."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sdbox.host.places import cache_folder
from sdbox.image.fingerprint import Part, fingerprint

KEPT = 4  # results of one kind; older ones are removed


def cached(kind: str, parts: Iterable[Part], make: Callable[[Path], None]) -> Path:
    """Return the folder of a result; `make` fills a new empty folder if there is none yet for these `parts`."""
    home = cache_folder() / "image"
    home.mkdir(parents=True, exist_ok=True)
    result = home / f"{kind}-{fingerprint(parts)}"
    with _locked(home / f"{kind}.lock"):
        if not result.exists():
            _make(result, make)
            _forget_old(home, kind)
    result.touch()
    return result


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two builds at once: the second waits for the first one's result instead of making it again."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(result: Path, make: Callable[[Path], None]) -> None:
    partial = result.with_name(f"{result.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # left by a build that was killed; the lock says that it is nobody's
    partial.mkdir()
    try:
        make(partial)
        partial.rename(result)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _forget_old(home: Path, kind: str) -> None:
    found = [path for path in home.glob(f"{kind}-*") if path.is_dir() and not path.name.endswith(".partial")]
    for path in sorted(found, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
