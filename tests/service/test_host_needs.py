"""A host that lacks something: one line that says what to do, exit code 2. Without a network: that, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdbox.bench.doctor import PROGRAMS, Status
from sdbox.host.making import IMAGE_ROOM
from sdbox.host.tools import tools_tree

pytestmark = pytest.mark.root
SDBOX = str(Path(sys.executable).with_name("sdbox"))
NEED_A_HOST = (("run",), ("bench", "way"), ("bench", "card"))
SMALL = 'mount -t tmpfs -o size=8m none "$SDBOX_CACHE" && exec "$@"'


def sdbox(*command: str, code: int, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def only_line(*command: str, env: dict[str, str] | None = None) -> str:
    """Return the only line of a command that refused to begin."""
    done = sdbox(*command, code=2, env=env)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def lacks(*command: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """Return what `sdbox doctor`, run by `command`, misses, with its advice."""
    findings = json.loads(sdbox(*command, "doctor", "--json", code=1, env=env).stdout)
    return {each["name"]: each["advice"] for each in findings if each["status"] == Status.MISSING}


@pytest.mark.parametrize("command", [*NEED_A_HOST, ("image", "build", "--output", "out/none")])
def test_without_root(command: tuple[str, ...]) -> None:
    assert "root" in only_line("unshare", "--user", SDBOX, *command)


def test_the_doctor_without_root_looks_at_the_rest_too() -> None:
    assert lacks("unshare", "--user", SDBOX).keys() == {"root", "namespaces"}


@pytest.mark.parametrize("command", NEED_A_HOST)
def test_on_a_full_disk(command: tuple[str, ...], tmp_path: Path) -> None:
    env = {"SDBOX_CACHE": str(tmp_path)}
    line = only_line("unshare", "--mount", "sh", "-c", SMALL, "sh", SDBOX, *command, env=env)
    assert "disk for the cache: 0.0 GB free" in line
    assert "SDBOX_CACHE" in line


def test_a_full_disk_matters_only_for_what_is_still_to_be_made(tmp_path: Path) -> None:
    """What the first run filled the disk with must not stop the second."""
    env = {"SDBOX_CACHE": str(tmp_path)}
    made = [tmp_path / tools_tree().name, *(tmp_path / "image" / f"{kind}-0123456789abcdef" for kind in IMAGE_ROOM)]
    fill = f"{SMALL.partition('&&')[0]} && mkdir -p {' '.join(map(str, made))} && exec {SDBOX} doctor"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", fill], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert "missing" not in done.stdout
    assert "0.0 GB free" in done.stdout


@pytest.mark.parametrize("command", NEED_A_HOST)
def test_without_a_program(command: tuple[str, ...], tmp_path: Path) -> None:
    line = only_line(SDBOX, *command, env={"PATH": str(tmp_path)})
    assert line.startswith("Error: program ")
    assert line.endswith("into PATH (all of it: sdbox doctor)")


def test_a_program_outside_path_is_not_there(tmp_path: Path) -> None:
    """Programs are called by their names: what is found elsewhere would not be."""
    missing = lacks(SDBOX, env={"PATH": str(tmp_path)})
    assert {f"program {name}" for name in PROGRAMS} <= set(missing)


def test_without_a_network_the_archive_is_named(tmp_path: Path) -> None:
    command = ("unshare", "--net", SDBOX, "image", "build", "--output", str(tmp_path / "out"))
    line = sdbox(*command, code=1, env={"SDBOX_CACHE": str(tmp_path)}).stderr.splitlines()[-1]
    assert line.startswith("sdbox image: mmdebstrap: E: ")
    assert "check the network" in line
    assert [path.name for path in tmp_path.iterdir() if "tools-" in path.name] == []
