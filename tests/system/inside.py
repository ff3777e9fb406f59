"""What a box of the debug profile is asked at its console about itself: who reaches its readers, what lies about."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sdbox.bench.census import run_in_box
from sdbox.qemu.machine import Machine

REACH = r"""
import json, os, pwd, socket
def reaches(name):
    pid = os.fork()
    if pid == 0:
        user = pwd.getpwnam(name)
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        try:
            socket.socket(socket.AF_UNIX).connect("/run/pcscd/pcscd.comm")
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
print("\nreach", json.dumps({name: reaches(name) for name in NAMES}), "end")
"""
# Programs that may leave a core file, the kernel's and systemd's settings; PID 1 itself sets its own limit, see below.
CORES = r"""
import glob, json
def read(path):
    try:
        return open(path).read()
    except OSError:
        return ""
able = [read(pid + "/comm").strip() for pid in glob.glob("/proc/[0-9]*") if read(pid + "/cmdline")
        for line in read(pid + "/limits").splitlines() if line.startswith("Max core file") and line.split()[4] != "0"]
units = glob.glob("/usr/lib/systemd/system/*coredump*") + glob.glob("/var/lib/systemd/coredump/*")
settings = [read("/proc/sys/" + name).strip() for name in ("kernel/core_pattern", "fs/suid_dumpable")]
print("\ncores", json.dumps({"able": sorted(able), "units": units, "settings": settings}), "end")
"""


def who_reaches_the_readers(machine: Machine, names: Sequence[str]) -> dict[str, bool]:
    """Return for each user whether pcscd's socket lets it in, with all the groups that it has."""
    return dict(json.loads(run_in_box(machine, f"NAMES = {list(names)!r}\n{REACH}", "reach")))


def core_files(machine: Machine) -> dict[str, list[str]]:
    """Return who could leave a core file (`able`), systemd's units for them, and the kernel's settings."""
    return dict(json.loads(run_in_box(machine, CORES, "cores")))
