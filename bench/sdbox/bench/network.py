"""The network of one lab: namespaces `campus` and `centre`, one per bubble, all made and removed together.

    box -- tap -- bridge 198.51.100.1 [campus: router, DHCP] 203.0.113.1 -- veth -- 203.0.113.10 [centre] .. [bubbles]

A bubble's namespace has no link of its own: the only way in is the tunnel interface that the bubble puts there.
Interfaces live and die with their namespace; names begin with `sdb<pid of the owner>`, so that leftovers of a killed
run can be told from the labs beside it.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import string
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sdbox.host.tools import tools_command
from sdbox.host.workfolder import remove_abandoned, runs
from sdbox.qemu.child import Child
from sdbox.qemu.deadline import wait_for
from sdbox.qemu.spec import DEFAULT_MAC, Nic

CAMPUS_ADDRESS = "198.51.100.1"
CAMPUS_NETWORK = "198.51.100.0/24"
ROUTER_ADDRESS = "203.0.113.1"
CENTRE_ADDRESS = "203.0.113.10"
BOX_ADDRESS = "198.51.100.20"  # what DHCP gives to DEFAULT_MAC, always: a restored box keeps its address
OWNED = re.compile(r"^sdb(?P<pid>\d+)[a-z]-")

_letters = itertools.cycle(string.ascii_lowercase)


class NetworkFailed(RuntimeError):
    """A namespace, link or address could not be made; the text has the command and its error."""


def ip(*words: str) -> str:
    """Run iproute2's `ip`; NetworkFailed with its own words if it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkFailed(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """Context manager: all of it exists inside the `with` block, none after it, even if making it failed half-way."""

    def __init__(self, work: Path, bubbles: Sequence[str]) -> None:
        """`work`: existing folder for leases and logs. `bubbles`: project names, one namespace each."""
        self._prefix = f"sdb{os.getpid()}{next(_letters)}"
        self._work = work
        self._bubbles = tuple(bubbles)
        self._stack = ExitStack()
        self._taps = itertools.count()

    @property
    def campus(self) -> str:
        """Namespace of the site where boxes stand."""
        return f"{self._prefix}-campus"

    @property
    def centre(self) -> str:
        """Namespace of the data centre's front."""
        return f"{self._prefix}-centre"

    def bubble(self, project: str) -> str:
        """Return the namespace of the bubble of `project`."""
        if project not in self._bubbles:
            raise KeyError(project)
        return f"{self._prefix}-{project}"

    def add_tap(self, mac: str = DEFAULT_MAC) -> Nic:
        """Make a tap on the campus bridge, for one machine."""
        tap = f"tap{next(self._taps)}"
        ip("-n", self.campus, "tuntap", "add", "dev", tap, "mode", "tap")
        ip("-n", self.campus, "link", "set", tap, "master", "bridge", "up")
        return Nic(self.campus, tap, mac)

    def add_host(self, name: str, address: str) -> str:
        """Make a namespace that stands on the campus like a box (`address` with prefix length); returns its name."""
        namespace = f"{self._prefix}-{name}"
        ip("netns", "add", namespace)
        self._stack.callback(ip, "netns", "delete", namespace)
        inside = ("-n", namespace)
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "link", "add", "lan", "type", "veth", "peer", "name", name, "netns", self.campus)
        ip("-n", self.campus, "link", "set", name, "master", "bridge", "up")
        ip(*inside, "address", "add", address, "dev", "lan")
        ip(*inside, "link", "set", "lan", "up")
        ip(*inside, "route", "add", "default", "via", CAMPUS_ADDRESS)
        return namespace

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for name in (self.campus, self.centre, *map(self.bubble, self._bubbles)):
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
                ip("-n", name, "link", "set", "lo", "up")
            self._join()
            stack.enter_context(self._start_dhcp())
            self._stack = stack.pop_all()
        return self

    def _join(self) -> None:
        campus, centre = ("-n", self.campus), ("-n", self.centre)
        ip(*campus, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        ip(*campus, "address", "add", f"{CAMPUS_ADDRESS}/24", "dev", "bridge")
        ip(*campus, "link", "set", "bridge", "up")
        ip(*campus, "link", "add", "wan", "type", "veth", "peer", "name", "lan", "netns", self.centre)
        ip(*campus, "address", "add", f"{ROUTER_ADDRESS}/24", "dev", "wan")
        ip(*campus, "link", "set", "wan", "up")
        ip(*centre, "address", "add", f"{CENTRE_ADDRESS}/24", "dev", "lan")
        ip(*centre, "link", "set", "lan", "up")
        ip(*centre, "route", "add", CAMPUS_NETWORK, "via", ROUTER_ADDRESS)
        ip("netns", "exec", self.campus, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    def _start_dhcp(self) -> Child:
        argv = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--log-facility=-",
        ]
        argv += ["--interface=bridge", "--bind-interfaces", "--dhcp-authoritative", "--pid-file="]
        argv += ["--dhcp-range=198.51.100.100,198.51.100.199,12h", f"--dhcp-host={DEFAULT_MAC},{BOX_ADDRESS},infinite"]
        argv += [f"--dhcp-option=option:router,{CAMPUS_ADDRESS}", f"--dhcp-leasefile={self._work / 'leases'}"]
        log = self._work / "dnsmasq.log"
        bwrap, *rest = tools_command(argv, binds=[self._work])
        # It changes its capabilities, which clears the signal that ends it with its owner (prctl(2), PR_SET_PDEATHSIG):
        # in a process namespace of its own it ends with that namespace's first process instead.
        child = Child("dnsmasq", [bwrap, "--unshare-pid", *rest], log, netns=self.campus)
        with ExitStack() as stack:
            stack.enter_context(child)

            def serving() -> bool:
                child.check()
                return b"DHCP, sockets bound" in log.read_bytes() or b"DHCP, IP range" in log.read_bytes()

            wait_for(serving, "dnsmasq to serve the campus", 10)
            stack.pop_all()
        return child

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def namespaces() -> list[str]:
    """Return the names of all named network namespaces."""
    return [line.split()[0] for line in ip("netns", "list").splitlines() if line.strip()]


def leftovers(names: Sequence[str]) -> list[str]:
    """Return those lab namespaces whose owner is dead."""
    return [name for name in names if (match := OWNED.match(name)) and not runs(int(match["pid"]))]


def clean_up(folder: Path) -> list[str]:
    """Remove what killed runs left: namespaces with all processes in them, and their work folders in `folder`.

    Returns the names of what was removed. What belongs to a process that runs is not touched.
    """
    removed = leftovers(namespaces())
    for name in removed:
        for pid in ip("netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        ip("netns", "delete", name)
    return removed + remove_abandoned(folder)
