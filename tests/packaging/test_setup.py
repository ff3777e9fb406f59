"""scripts/setup: what is wrong with a host is said in one line, before anything is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gates.tree import ROOT

pytestmark = pytest.mark.root
NEEDED = ("scripts", "requirements", "pyproject.toml")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with what scripts/setup reads, and no environment yet."""
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def failure(*command: str, cwd: Path = ROOT) -> str:
    """Return the only line that the command wrote; it must have failed, and made nothing."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert not (cwd / ".venv").exists() or cwd == ROOT
    (line,) = done.stderr.splitlines()
    return line


def in_own_mounts(mount: str, cwd: Path) -> str:
    """Return the failure of set-up after `mount`, which only this process sees."""
    return failure("unshare", "--mount", "sh", "-c", f"{mount} && scripts/setup", cwd=cwd)


def test_without_root() -> None:
    line = failure("unshare", "--user", "sh", str(ROOT / "scripts" / "setup"))
    assert line == "setup: needs root: run it as root or with sudo"


def test_on_another_system(copy: Path) -> None:
    (copy / "os-release").write_text('ID=other\nVERSION_ID="7"\n', encoding="ascii")
    line = in_own_mounts("mount --bind os-release /etc/os-release", copy)
    assert line.startswith("setup: needs Debian 12 or 13; this is")
    assert "other" in line


def test_on_a_full_disk(copy: Path) -> None:
    small = copy / "small"
    small.mkdir()
    mount = "mount -t tmpfs -o size=8m none small && cp -r scripts requirements pyproject.toml small && cd small"
    line = failure("unshare", "--mount", "sh", "-c", f"{mount} && scripts/setup", cwd=copy)
    assert line.startswith("setup: needs 2 GB of free disk space in ")
    assert "there is 7 MB" in line or "there is 8 MB" in line


def test_a_full_disk_does_not_stop_who_has_it_all(tmp_path: Path) -> None:
    (tmp_path / "df").write_text("#!/bin/sh\nprintf 'Filesystem\\nnone 8 8 0 100%% /\\n'\n", encoding="ascii")
    (tmp_path / "df").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["scripts/setup"], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
