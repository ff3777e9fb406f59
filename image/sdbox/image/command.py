"""Running the build's programs: quiet when they work, one line and a log file when they do not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdbox.host.places import cache_folder
from sdbox.host.tools import tools_command
from sdbox.image.request import ImageError

# One moment for everything that carries a time: 2026-01-01. Times of the build would make two builds differ.
EPOCH = 1767225600
FIXED = {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC"}


def run(what: str, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program of the host and return its output; ImageError with its last line otherwise."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **FIXED, **(env or {})},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise _failure(what, done)
    return done.stdout


def run_tool(what: str, argv: Sequence[str], *, binds: Sequence[Path], cwd: Path | None = None) -> str:
    """Run a program of the tools tree with `binds` in reach and return its output; ImageError otherwise."""
    return run(what, tools_command(argv, binds=binds), cwd=cwd)


def run_inside(what: str, tree: Path, argv: Sequence[str]) -> str:
    """Run a program of the box's own tree in it; the tree is writable, the network is not in reach."""
    sandbox = [
        "bwrap",
        "--die-with-parent",
        "--unshare-net",
        "--unshare-pid",
        "--clearenv",
        "--setenv",
        "PATH",
        "/usr/bin:/usr/sbin",
    ]
    sandbox += ["--setenv", "SOURCE_DATE_EPOCH", str(EPOCH), "--setenv", "LC_ALL", "C.UTF-8"]
    sandbox += ["--bind", str(tree), "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108 - inside the tree
    return run(what, [*sandbox, *argv])


def _failure(what: str, done: subprocess.CompletedProcess[str]) -> ImageError:
    log = cache_folder() / "logs" / f"{what.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{done.stdout}\n{done.stderr}", encoding="utf-8")
    lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
    return ImageError(f"{what}: exit {done.returncode}: {lines[-1].strip()} (all of it in {log})")
