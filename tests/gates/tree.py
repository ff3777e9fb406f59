"""The repository as the gates see it: files by kind, parsed once."""

from __future__ import annotations

import ast
import os
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("protocol", "boot", "attestation", "smartcard", "agent", "gateway", "host", "image", "qemu", "bench")
_MADE = {".git", ".venv", "out", "dist", "__pycache__"}


@cache
def files() -> tuple[Path, ...]:
    """Return every file of the work tree that is kept in git or could be, sorted."""
    return tuple(sorted(_walk()))


def _walk() -> Iterator[Path]:
    for folder, names, leaves in os.walk(ROOT):
        names[:] = [
            name for name in names if name not in _MADE and not name.endswith("_cache") and name != ".hypothesis"
        ]
        yield from (path for leaf in leaves if not (path := Path(folder, leaf)).is_symlink())


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(path for path in files() if path.suffix == ".py")


@cache
def product_files() -> tuple[Path, ...]:
    """Return the Python files of the components: what is shipped, without tests."""
    return tuple(path for path in python_files() if path.relative_to(ROOT).parts[0] in COMPONENTS)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def imported_modules(path: Path) -> set[str]:
    """Return the full names of the modules that `path` imports absolutely, wherever the import stands."""
    found = set[str]()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


@cache
def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))


def run(*command: str) -> None:
    """Run a checker in the work tree; its own output is the failure's text."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{' '.join(command[:4])}\n{done.stdout}{done.stderr}"
