"""What is made once: whole, by one at a time, again after a kill, and refused where there is no room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdbox.host.making import CanNotMake, make_once

# Says when it has begun, and makes the thing once it may.
MAKER = """
import pathlib, sys
from sdbox.host.making import make_once
def make(folder):
    (folder / "begun").touch()
    print("making", flush=True)
    sys.stdin.readline()
    (folder / "whole").touch()
home = pathlib.Path(sys.argv[1])
print(make_once(home / "thing", make, lock=home / "lock"))
"""


def start(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(maker: subprocess.Popen[str]) -> str:
    assert maker.stdout is not None
    return maker.stdout.readline().strip()


def fill(folder: Path) -> None:
    (folder / "whole").touch()


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    with start(tmp_path) as killed:
        assert line(killed) == "making"
        killed.kill()
    assert [path.name for path in tmp_path.glob("thing*")] == ["thing.partial"]
    assert make_once(tmp_path / "thing", fill, lock=tmp_path / "lock")
    assert [path.name for path in tmp_path.glob("thing*")] == ["thing"]
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["whole"]


def test_of_two_at_once_one_makes_it_and_both_have_it(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        assert line(first) == "making"
        with start(tmp_path) as second:
            first.communicate("now\n", timeout=20)
            assert second.communicate("now\n", timeout=20)[0].splitlines()[-1:] == ["False"]
        assert (first.returncode, second.returncode) == (0, 0)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        make_once(tmp_path / "thing", fail, lock=tmp_path / "lock")
    assert list(tmp_path.glob("thing*")) == []


def test_room_is_asked_for_what_is_still_to_be_made_only(tmp_path: Path) -> None:
    with pytest.raises(CanNotMake, match="SDBOX_CACHE"):
        make_once(tmp_path / "thing", fill, lock=tmp_path / "lock", room=1 << 62)
    assert make_once(tmp_path / "thing", fill, lock=tmp_path / "lock")
    assert not make_once(tmp_path / "thing", fill, lock=tmp_path / "lock", room=1 << 62)
