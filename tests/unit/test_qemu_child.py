"""Child processes and waits: nothing stays, nothing waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdbox.qemu.child import Child, ChildFailed
from sdbox.qemu.deadline import Overdue, wait_for

GRANDCHILD = "import subprocess,sys,time; print(subprocess.Popen(['sleep','60']).pid, flush=True); time.sleep(60)"


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def first_line(child: Child) -> str:
    return wait_for(lambda: child.log.read_text().partition("\n")[0] or None, "the first line", 10)


def test_stopping_ends_the_whole_group(tmp_path: Path) -> None:
    with Child("tree", [sys.executable, "-c", GRANDCHILD], tmp_path / "log") as child:
        grandchild = int(first_line(child))
        assert runs(grandchild)
    assert not runs(child.pid)
    wait_for(lambda: not runs(grandchild), "the grandchild to end", 2)


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = Child("deaf", [sys.executable, "-c", stubborn], tmp_path / "log")
    first_line(child)
    started = time.monotonic()
    child.stop(seconds=0.2)
    assert not runs(child.pid)
    assert time.monotonic() - started < 3


def test_a_child_dies_with_its_owner(tmp_path: Path) -> None:
    owner = (
        "import os,pathlib,sys;from sdbox.qemu.child import Child,group_members;"
        "from sdbox.qemu.deadline import wait_for;"
        "child=Child('c',['sleep','60'],pathlib.Path(sys.argv[1]));"
        "wait_for(lambda: 'sleep' in group_members(child.pid).values(),'sleep',10);"
        "print(child.pid,flush=True);os.kill(os.getpid(),9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", owner, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, check=False
    )
    wait_for(lambda: not runs(int(done.stdout)), "the orphan to end", 2)


def test_a_failed_program_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = Child("sad", [sys.executable, "-c", "raise SystemExit('no such tap')"], tmp_path / "log")
    child.wait(10)
    with pytest.raises(ChildFailed, match="sad ended with 1: no such tap"):
        child.check()
    child.stop()


def test_descriptors_are_not_passed_on_unless_asked(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    with Child("curious", [sys.executable, "-c", f"import os; os.fstat({write})"], tmp_path / "log") as child:
        assert child.wait(10) == 1
    os.close(read)
    os.close(write)


def test_a_wait_says_what_it_waited_for() -> None:
    with pytest.raises(Overdue, match=r"waited 0.05 s for the moon"):
        wait_for(lambda: None, "the moon", 0.05)


def test_zero_is_an_answer() -> None:
    assert wait_for(lambda: 0, "a number", 1) == 0
