"""Formatting, linting, typing, import direction and shell scripts: each checker runs as a test."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.gates.tree import files, name, run

BIN = Path(sys.executable).parent


def test_lint() -> None:
    run(str(BIN / "ruff"), "check", "--quiet", ".")


def test_format() -> None:
    run(str(BIN / "ruff"), "format", "--check", ".")


def test_types() -> None:
    run(str(BIN / "mypy"))


def test_import_direction() -> None:
    run(str(BIN / "lint-imports"), "--no-logo")


def test_shell_scripts() -> None:
    scripts = [path for path in files() if is_shell(path)]
    assert {"scripts/setup", ".ci/run"} <= {name(path) for path in scripts}
    assert shutil.which("shellcheck"), "shellcheck is not installed: run scripts/setup"
    run("shellcheck", *map(name, scripts))


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(64)
    return path.suffix == ".sh" or (
        first.startswith(b"#!") and first.split(b"/")[-1].split()[-1] in {b"sh", b"bash", b"dash"}
    )
