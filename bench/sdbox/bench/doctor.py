"""What a host needs for the build and the bench, looked at one by one. Nothing is changed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sdbox.host.making import GIGABYTE, IMAGE_ROOM, STATE_ROOM, TOOLS_ROOM, free_bytes
from sdbox.host.places import cache_folder, state_folder
from sdbox.host.tools import tools_tree
from sdbox.qemu.accel import choose_acceleration

MEMORY_NEED = 3 * GIGABYTE
SETUP = "run scripts/setup"

PROGRAMS = {
    "bwrap": "bubblewrap",
    "dbus-daemon": "dbus-daemon",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "openssl": "openssl",
    "pcscd": "pcscd",
    "pkcs11-tool": "opensc",
    "shellcheck": "shellcheck",
    "softhsm2-util": "softhsm2",
    "swtpm": "swtpm",
    "swtpm_setup": "swtpm-tools",
    "sysctl": "procps",
    "tpm2_eventlog": "tpm2-tools",
}
MODULES = (
    "OpenSSL",
    "dbus_next",
    "pkcs11",
    "qemu.qmp",
    "smartcard",
    "sqlalchemy",
    "tpm2_pytss",
    "virt.firmware",
)


class Status(StrEnum):
    """MISSING is what makes `sdbox run` or `make test` fail; NOTE is worth knowing and no more."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. `advice` is empty if there is nothing to do."""

    name: str
    status: Status
    found: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Yield a finding for each thing a host must or may have, cheapest first."""
    yield root()
    yield disk("disk for the cache", cache_folder(), cache_room())
    yield disk("disk for the keys", state_folder(), 0 if is_there(state_folder()) else STATE_ROOM)
    yield memory()
    yield processors()
    yield from map(program, PROGRAMS)
    yield from map(python_module, MODULES)
    yield tun()
    yield namespaces()
    yield tools()
    yield from accelerator()


def _need(name: str, found: str, *, met: bool, advice: str) -> Finding:
    return Finding(name, Status.OK, found) if met else Finding(name, Status.MISSING, found, advice)


def root() -> Finding:
    """Trees, namespaces and mounts need root."""
    user = os.geteuid()
    return _need("root", f"user id {user}", met=user == 0, advice="run as root or with sudo")


def cache_room() -> int:
    """Return the free bytes that the first run needs for what is not in the cache: none for what is made already."""
    results = cache_folder() / "image"
    kept = [path.name for path in results.iterdir() if path.suffix != ".partial"] if is_there(results) else []
    kinds = (room for kind, room in IMAGE_ROOM.items() if not any(name.startswith(f"{kind}-") for name in kept))
    return sum(kinds) + (0 if is_there(tools_tree()) else TOOLS_ROOM)


def is_there(path: Path) -> bool:
    """Whether `path` exists, as far as this user may look."""
    return os.access(path, os.F_OK)


def disk(name: str, folder: Path, need: int) -> Finding:
    """Look at the file system that `folder` is on or will be on."""
    free = free_bytes(folder)
    found = f"{free / GIGABYTE:.1f} GB free at {folder}, {need / GIGABYTE:.1f} wanted"
    advice = f"free {need / GIGABYTE:.1f} GB, or set SDBOX_CACHE and SDBOX_STATE to folders elsewhere"
    return _need(name, found, met=free >= need, advice=advice)


def memory() -> Finding:
    """The guest has 1 GB; the build needs about as much again."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    free = kilobytes * 1024
    advice = f"free {MEMORY_NEED / GIGABYTE:.0f} GB of memory"
    return _need("memory", f"{free / GIGABYTE:.1f} GB available", met=free >= MEMORY_NEED, advice=advice)


def processors() -> Finding:
    """One is enough but slow: the guest is emulated."""
    count = len(os.sched_getaffinity(0))
    return Finding(
        "processors", Status.OK if count > 1 else Status.NOTE, str(count), "" if count > 1 else "2 or more are faster"
    )


def program(name: str) -> Finding:
    """Look a program up in PATH, where it will be looked for, and else in the folders of system programs."""
    path = shutil.which(name)
    elsewhere = None if path else shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    advice = f"put {Path(elsewhere).parent} into PATH" if elsewhere else f"apt-get install {PROGRAMS[name]}"
    found = path or (f"{elsewhere}, not in PATH" if elsewhere else "not found")
    return _need(f"program {name}", found, met=path is not None, advice=advice)


def python_module(name: str) -> Finding:
    """Find a module without running it."""
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is absent
        found = False
    return _need(f"module {name}", "installed" if found else "not found", met=found, advice=SETUP)


def tun() -> Finding:
    """wireguard-go makes its interface through /dev/net/tun (a container must be given it)."""
    device = Path("/dev/net/tun")
    met = device.exists() and stat.S_ISCHR(device.stat().st_mode)
    return _need(
        "tunnel device",
        str(device) if met else "absent",
        met=met,
        advice="modprobe tun, or give the container /dev/net/tun",
    )


def namespaces() -> Finding:
    """The bench's networks and the test's mounts live in namespaces of their own."""
    try:
        result = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, timeout=5, check=False)
        met = result.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        met = False
    advice = "run as root on a host that allows network and mount namespaces"
    return _need("namespaces", "allowed" if met else "refused", met=met, advice=advice)


def tools() -> Finding:
    """The tools tree is made on first use: its absence is no fault."""
    tree = tools_tree()
    if is_there(tree):
        return Finding("tools tree", Status.OK, str(tree))
    return Finding("tools tree", Status.NOTE, "not made yet", "the first run makes it")


def accelerator() -> Iterator[Finding]:
    """Software emulation is the normal case; KVM is used where a probe proves that it runs."""
    if is_there(tools_tree()):
        yield Finding("acceleration", Status.NOTE, choose_acceleration().why)
    else:
        yield Finding("acceleration", Status.NOTE, "not probed: QEMU comes with the tools tree")
