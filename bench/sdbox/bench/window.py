"""The box's screen in a window: a VNC viewer of the tools tree on QEMU's unix socket, nothing on the network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdbox.host.tools import tools_command, tools_tree
from sdbox.qemu.child import Child, ChildFailed
from sdbox.qemu.deadline import Overdue, wait_for
from sdbox.qemu.machine import Machine
from sdbox.qemu.spec import MachineSpec

X_SOCKETS = Path("/tmp/.X11-unix")  # noqa: S108 - where X servers put their sockets
VIEWER = "xtigervncviewer"
VIEWER_SECONDS = 20.0


class WindowError(RuntimeError):
    """The window can not be shown; the text has the viewer's last words."""


def why_no_window() -> str:
    """Return why this host can not show a window and what to do about it, "" if it can."""
    if not os.environ.get("DISPLAY"):
        return "--window needs a graphical session (DISPLAY is not set): use ssh -X, or --script FILE without a window"
    if tools_tree().exists() and not (tools_tree() / "usr/bin" / VIEWER).exists():
        return f"--window needs {VIEWER}, and {tools_tree()} has none: delete that folder, the next run makes it anew"
    return ""


@contextmanager
def powered(spec: MachineSpec, *, window: bool) -> Iterator[Machine]:
    """Yield the machine of `spec`, powered on; with `window`, its screen is shown until the block ends."""
    if not window:
        with Machine(spec) as machine:
            yield machine
        return
    with Machine(with_screen_address(spec)) as machine, viewer(machine):
        yield machine


def with_screen_address(spec: MachineSpec) -> MachineSpec:
    """Return the same machine with its screen on a unix socket for a viewer."""
    return dataclasses.replace(spec, display=f"vnc=unix:{_screen(spec)}")


def _screen(spec: MachineSpec) -> Path:
    return spec.work / "screen.vnc"


@contextmanager
def viewer(machine: Machine) -> Iterator[None]:
    """Show the machine's screen on the caller's display while the block runs; WindowError if that can not be.

    A user who closes the window loses the picture and nothing else.
    """
    work = machine.spec.work
    authority = Path(os.environ.get("XAUTHORITY", Path.home() / ".Xauthority"))
    binds = [work, *(path for path in (X_SOCKETS, authority) if path.exists())]
    env = {"DISPLAY": os.environ["DISPLAY"], "XAUTHORITY": str(authority), "HOME": str(work)}
    command = tools_command([VIEWER, "-Shared", str(_screen(machine.spec))], binds=binds)
    with Child("viewer", command, work / "viewer.log", env=env) as child:
        try:
            wait_for(lambda: _is_shown(machine) or not child.alive(), "the viewer to show the screen", VIEWER_SECONDS)
            child.check()
        except (Overdue, ChildFailed) as error:
            reason = child.log_tail().rpartition("\n")[2] or str(error)
            raise WindowError(f"no window on DISPLAY {os.environ['DISPLAY']}: {reason}") from error
        yield


def _is_shown(machine: Machine) -> bool:
    """Whether a viewer has connected (QMP query-vnc)."""
    reply = machine.qmp("query-vnc")
    return isinstance(reply, dict) and bool(reply.get("clients"))
