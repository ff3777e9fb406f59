"""Child processes: output in a log file, dead when the owner dies, wholly gone when stopped.

Each child leads its own process group, because bubblewrap stays as the parent of the program it runs: stopping means
that the whole group is gone, not only its leader. The death signal follows the *thread* that started the child
(PR_SET_PDEATHSIG, prctl(2)): start children from a thread that outlives them.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sdbox.qemu.deadline import Overdue, wait_for

LOG_TAIL = 2000
WRAPPER = "bwrap"


class ChildFailed(RuntimeError):
    """A program ended when it should be running; the text has the end of its log."""


def in_namespace(netns: str | None, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in network namespace `netns` (by its /run/netns name; None: stay here)."""
    return [*(["nsenter", f"--net=/run/netns/{netns}", "--"] if netns else []), *argv]


def group_members(group: int) -> dict[int, str]:
    """Return the living processes of a process group and their names (proc_pid_stat(5)); zombies do not live."""
    members = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            start, _, rest = path.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, process_group, *_ = rest.split()
        if int(process_group) == group and state not in "ZX":
            members[int(path.parent.name)] = start.partition("(")[2]
    return members


def processor_seconds(pid: int) -> float:
    """Return what a process has taken of the processors so far, all its threads (proc_pid_stat(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Child:
    """One running program. `log` gets its standard output and error; `name` is used in messages."""

    def __init__(  # noqa: PLR0913 - all after the log are rarely used keywords
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        netns: str | None = None,
        pipes: bool = False,
        pass_fds: Sequence[int] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        command = ["setpriv", "--pdeathsig", "KILL", "--", *in_namespace(netns, argv)]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                start_new_session=True,
                pass_fds=pass_fds,
                env=None if env is None else {**os.environ, **env},
            )

    @property
    def pid(self) -> int:
        """The leader's process id, which is also the group's."""
        return self.process.pid

    def alive(self) -> bool:
        """Whether the program still runs."""
        return self.process.poll() is None

    def check(self) -> None:
        """Raise ChildFailed with the end of the log if the program has ended."""
        if not self.alive():
            raise ChildFailed(f"{self.name} ended with {self.process.returncode}: {self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return self.log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()

    def send(self, text: str, *, close: bool = False) -> None:
        """Write `text` to the program's standard input (it was started with `pipes`), and close it if asked."""
        if self.process.stdin is None:
            raise ValueError(f"{self.name} has no standard input")
        self.process.stdin.write(text.encode())
        self.process.stdin.close() if close else self.process.stdin.flush()

    def wait(self, seconds: float) -> int:
        """Return the exit code; Overdue if the program still runs after `seconds`."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Overdue(f"waited {seconds:g} s for {self.name} to end") from error

    def stop(self, seconds: float = 3.0) -> None:
        """End the whole group: asked to first (SIGTERM), killed after `seconds`. Nothing of it is left on return."""
        self._signal(signal.SIGTERM)
        if not self._ended(seconds):
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        """End the whole group at once, as a power cut would."""
        self._signal(signal.SIGKILL)
        if not self._ended(5.0):
            raise ChildFailed(f"{self.name} can not be killed")

    def _ended(self, seconds: float) -> bool:
        try:
            return wait_for(self._gone, f"{self.name} to end", seconds, interval=0.005)
        except Overdue:
            return False

    def _gone(self) -> bool:
        return self.process.poll() is not None and not group_members(self.pid)

    def _signal(self, number: signal.Signals) -> None:
        members = group_members(self.pid)
        # Bubblewrap would die before its program, which then gets no chance to end well and no parent to reap it.
        programs = [pid for pid, name in members.items() if name != WRAPPER]
        for pid in programs or members:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
