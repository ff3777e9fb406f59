"""Results kept by fingerprint below the cache folder. A result appears under its name only when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from sdbox.host.making import IMAGE_ROOM, make_once
from sdbox.host.places import cache_folder
from sdbox.image.fingerprint import Part, fingerprint

KEPT = 4  # results of one kind; older ones are removed


def cached(kind: str, parts: Iterable[Part], make: Callable[[Path], None]) -> Path:
    """Return the folder of a result; `make` fills a new empty folder if there is none yet for these `parts`."""
    home = cache_folder() / "image"
    result = home / f"{kind}-{fingerprint(parts)}"
    if make_once(result, make, lock=home / f"{kind}.lock", room=IMAGE_ROOM.get(kind, 0)):
        _forget_old(home, kind)
    result.touch()
    return result


def _forget_old(home: Path, kind: str) -> None:
    found = [path for path in home.glob(f"{kind}-*") if path.is_dir() and not path.name.endswith(".partial")]
    for path in sorted(found, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
