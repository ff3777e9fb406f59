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

from sdbox.host.places import cache_folder, state_folder
from sdbox.host.tools import tools_tree
from sdbox.qemu.accel import choose_acceleration

GIGABYTE = 1 << 30
CACHE_NEED = 12 * GIGABYTE
STATE_NEED = GIGABYTE // 10
MEMORY_NEED = 3 * GIGABYTE
SETUP = "run scripts/setup"

PROGRAMS = {
    "bwrap": "bubblewrap",
    "dbus-daemon": "dbus-daemon",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "pcscd": "pcscd",
    "pkcs11-tool": "opensc",
    "shellcheck": "shellcheck",
    "softhsm2-util": "softhsm2",
    "swtpm": "swtpm",
    "swtpm_setup": "swtpm-tools",
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
    yield disk("disk for the cache", cache_folder(), CACHE_NEED)
    yield disk("disk for the keys", state_folder(), STATE_NEED)
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


def disk(name: str, folder: Path, need: int) -> Finding:
    """Look at the file system that `folder` is on or will be on."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    advice = f"free {need / GIGABYTE:.1f} GB, or set SDBOX_CACHE and SDBOX_STATE to folders elsewhere"
    return _need(name, f"{free / GIGABYTE:.1f} GB free at {folder}", met=free >= need, advice=advice)


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
    """Look a program up in PATH and in the folders of system programs."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    return _need(
        f"program {name}", path or "not found", met=path is not None, advice=f"apt-get install {PROGRAMS[name]}"
    )


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
    found = str(tree) if tree.exists() else "not made yet"
    return Finding(
        "tools tree",
        Status.OK if tree.exists() else Status.NOTE,
        found,
        "" if tree.exists() else "the first run makes it",
    )


def accelerator() -> Iterator[Finding]:
    """Software emulation is the normal case; KVM is used where a probe proves that it runs."""
    if tools_tree().exists():
        yield Finding("acceleration", Status.NOTE, choose_acceleration().why)
    else:
        yield Finding("acceleration", Status.NOTE, "not probed: QEMU comes with the tools tree")
