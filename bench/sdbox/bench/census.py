"""What runs in a box of the debug profile, asked at its console: a leak shows as the difference of two counts."""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Final

import msgspec

from sdbox.qemu.machine import Machine

ASK_SECONDS: Final = 60.0
SETTLE_LOOKS: Final = 4
SETTLE_SECONDS: Final = 5.0
UNPACK: Final = (
    'import base64, sys, zlib; print("\\nlistens", flush=True); '
    "exec(zlib.decompress(base64.b64decode(sys.stdin.readline())))"
)
# RssAnon: what a process has taken for itself.
COUNT: Final = r"""
import glob, json
def read(path):
    try:
        return open(path, "rb").read().decode(errors="replace")
    except OSError:
        return ""
def size(pid):
    status = dict(line.split(":", 1) for line in read(pid + "/status").splitlines())
    return {"descriptors": len(glob.glob(pid + "/fd/*")), "threads": int(status["Threads"]),
            "kib": int(status.get("RssAnon", "0 kB").split()[0])}
pids = [pid for pid in glob.glob("/proc/[0-9]*") if read(pid + "/stat")]
lines = {pid: read(pid + "/cmdline").replace("\0", " ") for pid in pids}
dead = [pid for pid in pids if read(pid + "/stat").rpartition(")")[2].split()[:1] == ["Z"]]
workers = [pid for pid in pids if "sdbox.smartcard.worker" in lines[pid]]
named = lambda word: next((size(pid) for pid in pids if word in lines[pid]), None)
print("\ncensus", json.dumps({"programs": len([1 for line in lines.values() if line]), "zombies": len(dead),
    "workers": len(workers), "agent": named("/usr/bin/sdbox-agent"), "pcscd": named("/usr/sbin/pcscd")}), "end")
"""


class Process(msgspec.Struct, frozen=True):
    """What one process holds; `kib` is memory of its own."""

    descriptors: int
    threads: int
    kib: int


class Census(msgspec.Struct, frozen=True):
    """Programs that run (kernel threads are none), those that ended and were not waited for, card workers."""

    programs: int
    zombies: int
    workers: int
    agent: Process
    pcscd: Process

    def leaks(self, before: Census, *, kib: int) -> list[str]:
        """Return what has grown since `before`, both taken with no card in; memory may grow by `kib`."""
        grown = [
            (name, getattr(before, name), getattr(self, name))
            for name in ("programs", "zombies", "workers")
            if getattr(self, name) > getattr(before, name)
        ]
        for name, old, new in (("agent", before.agent, self.agent), ("pcscd", before.pcscd, self.pcscd)):
            grown += [(f"{name}'s descriptors", old.descriptors, new.descriptors)] * (new.descriptors > old.descriptors)
            grown += [(f"{name}'s threads", old.threads, new.threads)] * (new.threads > old.threads)
            grown += [(f"{name}'s KiB", old.kib, new.kib)] * (new.kib > old.kib + kib)
        return [f"{name}: {old} before, {new} after" for name, old, new in grown]


def run_in_box(machine: Machine, program: str, word: str, seconds: float = ASK_SECONDS) -> str:
    """Run a Python program in a box of the debug profile; the text that it prints between `word` and `end`."""
    since = machine.console.mark()
    # Typed to Python and not to the shell, whose line editor is slow; packed, because a terminal's line has 4096 bytes.
    machine.type_console(f"python3 -c '{UNPACK}'\n")
    machine.console.wait("^listens$", seconds, since=since)
    machine.type_console(base64.b64encode(zlib.compress(program.encode(), 9)).decode() + "\n")
    return machine.console.wait(rf"^{word} (?P<said>.*) end$", seconds, since=since)["said"]


def take_census(machine: Machine) -> Census:
    """Count; the box must be of the debug profile, with pcscd running and no card in: then one worker waits for one."""
    for _ in range(SETTLE_LOOKS):
        census = msgspec.convert(json.loads(run_in_box(machine, COUNT, "census")), Census)
        if census.workers:
            break
        time.sleep(SETTLE_SECONDS)
    return census


def leaks_after(machine: Machine, before: Census, *, kib: int) -> list[str]:
    """Return what has grown since `before` and does not go: what was just closed is given some seconds."""
    for _ in range(SETTLE_LOOKS):
        leaks = take_census(machine).leaks(before, kib=kib)
        if not leaks:
            break
        time.sleep(SETTLE_SECONDS)
    return leaks
