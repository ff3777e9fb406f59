"""Taking out of Debian's tree what the box does not need: smaller, faster to boot, less to attack."""

from __future__ import annotations

import fnmatch
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

PROGRAM_FOLDERS = ("usr/bin", "usr/sbin")
SET_ID = stat.S_ISUID | stat.S_ISGID


def remove_paths(tree: Path, patterns: Iterable[str]) -> None:
    """Remove what the globs match, below `tree` and never through a link."""
    for pattern in patterns:
        for path in sorted(tree.glob(pattern)):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def keep_programs(tree: Path, patterns: Iterable[str]) -> None:
    """Remove every program whose name matches none of `patterns`."""
    wanted = tuple(patterns)
    for folder in PROGRAM_FOLDERS:
        for path in sorted((tree / folder).iterdir()):
            if not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in wanted):
                remove(path)


def keep_unit_links(tree: Path, kept: Iterable[str]) -> None:
    """Remove all links that Debian's packages start units by, but for `kept` (`x.target.wants/y.service`)."""
    units = tree / "usr/lib/systemd/system"
    wanted = {units / name for name in kept}
    for folder in sorted(units.glob("*.*s")):
        if folder.is_dir() and folder.suffix in {".wants", ".requires", ".upholds"}:
            for link in sorted(folder.iterdir()):
                if link not in wanted:
                    remove(link)


def drop_set_id(tree: Path) -> None:
    """Take the set-user-ID and set-group-ID bits from all files; the root is mounted nosuid besides."""
    for path in tree.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & SET_ID:
            path.chmod(stat.S_IMODE(mode) & ~SET_ID)
