"""The box's screen in a window: a VNC viewer of the tools tree on QEMU's unix socket, nothing on the network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdbox.host.tools import tools_command
from sdbox.qemu.child import Child
from sdbox.qemu.machine import Machine
from sdbox.qemu.spec import MachineSpec

X_SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108 - where X servers put their sockets


@contextmanager
def powered(spec: MachineSpec, *, window: bool) -> Iterator[Machine]:
    """Yield the machine of `spec`, powered on; with `window`, its screen is shown until the block ends."""
    if not window:
        with Machine(spec) as machine:
            yield machine
        return
    socket = spec.work / "screen.vnc"
    with Machine(dataclasses.replace(spec, display=f"vnc=unix:{socket}")) as machine, viewer(socket, spec.work):
        yield machine


@contextmanager
def viewer(socket: Path, work: Path) -> Iterator[None]:
    """Show the VNC screen of `socket` on the caller's display while the block runs."""
    authority = Path(os.environ.get("XAUTHORITY", Path.home() / ".Xauthority"))
    binds = [work, *(path for path in (X_SOCKETS, authority) if path.exists())]
    env = {"DISPLAY": os.environ["DISPLAY"], "XAUTHORITY": str(authority), "HOME": str(work)}
    with Child("viewer", tools_command(["xtigervncviewer", str(socket)], binds=binds), work / "viewer.log", env=env):
        yield
