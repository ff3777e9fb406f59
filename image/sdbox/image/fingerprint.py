"""What a step's result depends on, as one short name: unchanged inputs are found finished in the cache."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

DIGITS = 16
IGNORED = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", "README.md"})

Part = str | bytes | Path


def fingerprint(parts: Iterable[Part]) -> str:
    """Return 16 hex digits of SHA-256 over strings, files and folders (names, kinds, execute bits, contents)."""
    total = hashlib.sha256()
    for part in parts:
        total.update(_digest(part))
    return total.hexdigest()[:DIGITS]


def _digest(part: Part) -> bytes:
    if isinstance(part, Path):
        entries = b"".join(_entry(part, path) for path in walk(part))
        return hashlib.sha256(b"path" + entries).digest()
    kind, data = (b"text", part.encode()) if isinstance(part, str) else (b"data", part)
    return hashlib.sha256(kind + data).digest()


def walk(top: Path) -> Iterator[Path]:
    """Yield `top` and everything below it, in an order that depends on names alone."""
    yield top
    if top.is_dir() and not top.is_symlink():
        for child in sorted(top.iterdir()):
            if child.name not in IGNORED:
                yield from walk(child)


def _entry(top: Path, path: Path) -> bytes:
    mode = path.lstat().st_mode
    name = str(path.relative_to(top)).encode()
    kind = oct(stat.S_IFMT(mode) | mode & stat.S_IXUSR).encode()
    return hashlib.sha256(b"\0".join((name, kind, _content(path, mode)))).digest()


def _content(path: Path, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return str(path.readlink()).encode()
    return path.read_bytes() if stat.S_ISREG(mode) else b""
