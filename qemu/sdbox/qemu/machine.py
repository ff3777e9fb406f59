"""A virtual box as a context manager: powered on at entry, nothing of it left at exit.

Power-on again after `power_cut` keeps disk, firmware variables and TPM, as a real box would.
"""

from __future__ import annotations

import array
import fcntl
import shutil
import socket
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image

from sdbox.host.tools import tools_command
from sdbox.qemu.child import Child, ChildFailed, group_members, processor_seconds
from sdbox.qemu.console import Console
from sdbox.qemu.deadline import Overdue, wait_for
from sdbox.qemu.keyboard import strokes
from sdbox.qemu.overlay import make_overlay
from sdbox.qemu.qmp import Qmp, QmpFailed
from sdbox.qemu.screen import read_ppm, wait_pixels
from sdbox.qemu.spec import MachineSpec, arguments
from sdbox.qemu.tpm import TpmProcess

QMP_SECONDS = 20.0
EMULATOR = "qemu-system"  # its process's name begins so
SENSOR_SERIAL = "sdbox-sensor"  # of the bridge: the box's udev rule knows its sensor by it


class Machine:
    """One virtual box. Start and stop it from one thread; screenshots, keys and waits may come from any."""

    def __init__(self, spec: MachineSpec, *, memory: Path | None = None) -> None:
        """Prepare the machine of `spec`; with `memory` (a saved machine's) it goes on where that one stopped."""
        self.spec = spec
        self.console = Console(spec.console_log, self.check)
        self.started = 0.0  # host's monotonic clock at power-on
        self._memory = memory
        self._child: Child | None = None
        self._qmp: Qmp | None = None
        self._tpm: TpmProcess | None = None
        self._screen = spec.work / "screen.ppm"

    def start(self) -> None:
        """Power on. Overdue or ChildFailed if QEMU or swtpm does not come up."""
        prepare(self.spec)
        self.console = Console(self.spec.console_log, self.check)
        try:
            if self.spec.tpm is not None:
                self._tpm = TpmProcess(self.spec.tpm, self.spec.work)
                self._tpm.wait_ready()
            self._launch()
        except BaseException:
            self.stop()
            raise
        self.console.start()

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            address = self._tpm.address if self._tpm else None
            argv = arguments(self.spec, qmp_fd=theirs.fileno(), tpm_address=address, incoming=self._memory is not None)
            nic = self.spec.nic
            self.started = time.monotonic()
            self._child = Child(
                "qemu",
                tools_command(argv, binds=_binds(self.spec, self._memory)),
                self.spec.work / "qemu.log",
                netns=nic.netns if nic else None,
                pass_fds=[theirs.fileno()],
            )
        self._qmp = Qmp(ours, "qemu")
        try:
            self._qmp.connect(QMP_SECONDS)
        except QmpFailed as error:
            self._child.wait(QMP_SECONDS)
            raise ChildFailed(f"qemu did not start: {self._child.log_tail()}") from error
        if self._memory is not None:
            self._resume(self._memory)

    def _resume(self, memory: Path) -> None:
        self.qmp("migrate-incoming", uri=f"file:{memory}")
        self.wait_run_state("paused", "the saved machine to be loaded", 30)
        self.qmp("cont")

    def check(self) -> None:
        """Raise ChildFailed if the machine is not running."""
        if self._child is None:
            raise ChildFailed("the machine is off")
        self._child.check()

    def processor_seconds(self) -> float:
        """Return the processor time that the emulator has taken since power-on: neighbours stretch it but little."""
        self.check()
        group = group_members(self._child.pid) if self._child else {}
        return sum(processor_seconds(pid) for pid, name in group.items() if name.startswith(EMULATOR))

    def qmp(self, command: str, seconds: float = QMP_SECONDS, **arguments: object) -> object:
        """Return QEMU's reply to a QMP command; ChildFailed if the machine is off, QmpFailed if it refuses."""
        self.check()
        if self._qmp is None:
            raise ChildFailed("the machine is off")
        return self._qmp.run(command, seconds, **arguments)

    def wait_run_state(self, state: str, what: str, seconds: float) -> None:
        """Wait until QMP `query-status` says `state`."""
        end = time.monotonic() + seconds
        while (seen := _status(self.qmp("query-status"))) != state:
            if time.monotonic() > end:
                raise Overdue(f"waited {seconds:g} s for {what}; the machine is {seen}")
            time.sleep(0.01)

    def screenshot(self) -> Image.Image:
        """Return the box's screen, RGB."""
        self.qmp("screendump", filename=str(self._screen), device="gpu")
        return read_ppm(self._screen)

    def wait_pixels(self, predicate: Callable[[Image.Image], bool], what: str, seconds: float) -> Image.Image:
        """Return the first screenshot that `predicate` accepts; Overdue, with the last one saved, after `seconds`."""
        keep = self.spec.work / "overdue.png"
        return wait_pixels(self.screenshot, predicate, what, seconds, keep=keep)

    def press(self, *keys: str) -> None:
        """Press keys together, by QEMU's key names ("ret", "kp_1", "pause", "ctrl")."""
        self.qmp("send-key", keys=[{"type": "qcode", "data": key} for key in keys], hold_time=30)

    def type_keys(self, text: str) -> None:
        """Type `text` as on a US keyboard, key after key."""
        for keys in strokes(text):
            for down in (True, False):
                ordered = keys if down else reversed(keys)
                self.qmp("input-send-event", events=[_key_event(key, down=down) for key in ordered])
                time.sleep(0.02)  # the USB keyboard is polled: faster strokes fall out of its 16-event queue

    def type_console(self, text: str) -> None:
        """Type `text` on the serial console (only an image of the debug profile listens there)."""
        self.check()
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.spec.console_address))
            channel.sendall(text.encode())
            # QEMU drops what it has not read when we hang up, and it reads only as fast as the guest's UART does.
            wait_for(lambda: _unread(channel) == 0, "the serial console to take what was typed", QMP_SECONDS)

    def wait_console(self, pattern: str, seconds: float, *, since: int = 0) -> None:
        """Wait for a console line that matches `pattern`; see `console` for phases, states and refusals."""
        self.console.wait(pattern, seconds, since=since)

    def plug_sensor(self) -> Path:
        """Build the box's fingerprint sensor in and return the socket where its twin, once connected, switches it on.

        A serial line behind a USB bridge, added to the running machine: QEMU cannot save one with it (usb-serial).
        """
        address = self.spec.sensor_address
        if not address.is_socket():
            where = {"type": "unix", "data": {"path": str(address)}}
            backend = {"type": "socket", "data": {"addr": where, "server": True, "wait": False}}
            self.qmp("chardev-add", id="sensor", backend=backend)
            self.qmp("device_add", driver="usb-serial", id="sensor", chardev="sensor", serial=SENSOR_SERIAL)
        return address

    def reset(self) -> None:
        """Press the reset button."""
        self.qmp("system_reset")

    def power_cut(self) -> None:
        """Take the power away: nothing in the guest gets to know, nor its TPM."""
        if self._tpm is not None:
            self._tpm.power_cut()
        if self._child is not None:
            self._child.kill()
        self.stop()

    def stop(self) -> None:
        """Power off at once and leave no process; calling it again does nothing."""
        if self._child is not None and self._qmp is not None and self._child.alive():
            try:
                self._qmp.run("quit", 3)
                self._child.wait(3)
            except (QmpFailed, Overdue):
                self._child.kill()
        for part in (self._child, self._tpm):
            if part is not None:
                part.stop()
        if self._qmp is not None:
            self._qmp.close()
        self.console.stop()
        self._child = self._tpm = self._qmp = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def prepare(spec: MachineSpec) -> None:
    """Make what the machine's work folder lacks: disk overlay and copies of firmware and variables."""
    spec.work.mkdir(parents=True, exist_ok=True)
    sockets = (spec.card_address, spec.sensor_address, spec.console_address, spec.second_serial_address)
    for stale in (*sockets, spec.console_log):
        stale.unlink(missing_ok=True)
    if spec.firmware is not None:
        for source, copy in ((spec.firmware.code, spec.firmware_code), (spec.firmware.variables, spec.variables)):
            if not copy.exists():
                shutil.copy(source, copy)
    if spec.disk is not None and not spec.overlay.exists():
        make_overlay(spec.disk, spec.overlay)


def _binds(spec: MachineSpec, memory: Path | None) -> Sequence[Path]:
    direct = (spec.direct.kernel, spec.direct.initrd) if spec.direct else ()
    outside = [path for path in (spec.disk and spec.disk.resolve(), memory, *direct) if path is not None]
    vnc = [Path(spec.display.removeprefix("vnc=unix:")).parent] if spec.display.startswith("vnc=unix:") else []
    return [spec.work, *outside, *vnc]


def _unread(channel: socket.socket) -> int:
    """Return how much of what was sent on a unix socket the other end has not read (unix(7), SIOCOUTQ)."""
    answer = array.array("i", [0])
    fcntl.ioctl(channel, termios.TIOCOUTQ, answer)  # the same number as SIOCOUTQ
    return answer[0]


def _key_event(key: str, *, down: bool) -> dict[str, object]:
    return {"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": key}}}


def _status(reply: object) -> str:
    return str(reply["status"]) if isinstance(reply, dict) else ""
