"""The RDP client: one process of user `sdbox-rdp` inside namespace `bubble`, started with its secret through a pipe.

`xfreerdp3` reads everything from a descriptor (`/args-from:fd:N`), so neither the argument list nor the environment
carries the secret (S8). Its standard output is a terminal of its own, because on a pipe it would hold its lines back
until 4096 bytes are full, and the line that tells of the connection with them. Of what it says only the names of its
error codes leave this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import select
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sdbox.agent.namespace import Namespace
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import DesktopAccess

RDP_USER: Final = "sdbox-rdp"
HOME: Final = "/run/sdbox-rdp"
SHOWN_SECONDS: Final = 40.0  # seen: 10 s under software emulation when Xwayland had to start first
GONE_SECONDS: Final = 2.0
# xfreerdp3(1), exit status: success, disconnect, logoff; 11 and 12 the same by the user
SIGNED_OUT: Final = frozenset({0, 1, 2, 11, 12})

_CONNECTED: Final = b"gdi_init_ex]: Local framebuffer format"  # printed once, after the connection is active
_ERROR: Final = re.compile(rb"ERRCONNECT_[A-Z_]+")
_TAIL: Final = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where the client runs: as whom, in which network, on which X display."""

    namespace: Namespace
    display: str
    user: str = RDP_USER
    home: str = HOME


def client_arguments(access: DesktopAccess) -> list[str]:
    """Return what the client is told through the pipe. Only keys and pointer cross to the bubble (S9)."""
    return [
        f"/v:{access.host}:{access.port}",
        f"/u:{access.user}",
        f"/p:{access.secret}",
        f"/cert:deny,fingerprint:sha256:{access.certificate_sha256}",
        "/sec:nla",
        "/f",
        "/timeout:8000",
        "/log-level:INFO",
        "/audio-mode:2",
        "-clipboard",
        "-grab-keyboard",
        "-toggle-fullscreen",
        "-auto-reconnect",
    ]


def client_command(user: str, arguments: int) -> list[str]:
    """Return the command line: no privilege left, none to be had, and no secret in it."""
    entry = pwd.getpwnam(user)
    drop = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--no-new-privs"]
    drop += ["--bounding-set=-all", "--inh-caps=-all", "--"]
    return [*drop, "xfreerdp3", f"/args-from:fd:{arguments}"]


class DesktopSession:
    """A running client. `kill` works at any moment and from any state."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._terminal = terminal
        self._tail = b""
        self._error = ""
        self._news = asyncio.Event()
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._terminal, self._heard)
        loop.add_reader(self._pidfd, self._exited)

    @classmethod
    async def start(cls, access: DesktopAccess, place: Place) -> DesktopSession:
        """Start the client; Refusal(DESKTOP_FAILED) if it cannot be."""
        terminal, line = os.openpty()
        os.set_blocking(terminal, False)
        spawning = asyncio.ensure_future(place.namespace.run(lambda: _spawn(access, place, line)))
        try:
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            os.close(terminal)
            spawning.add_done_callback(_kill)  # it must not outlive a card that was pulled, whatever else is cancelled
            await asyncio.wait({spawning})
            raise
        except (OSError, KeyError) as error:
            os.close(terminal)
            raise Refusal(Reason.DESKTOP_FAILED, f"the RDP client does not start: {type(error).__name__}") from error
        finally:
            os.close(line)
        return cls(process, terminal)

    async def shown(self) -> None:
        """Wait until the desktop is connected; Refusal(DESKTOP_FAILED) if the client ends or takes too long."""
        try:
            async with asyncio.timeout(SHOWN_SECONDS):
                await self._news.wait()  # connected or ended
        except TimeoutError as error:
            raise Refusal(Reason.DESKTOP_FAILED, f"not connected in {SHOWN_SECONDS:g} s") from error
        if self._ended.done():
            raise self.failure(self._ended.result())

    async def ended(self) -> int:
        """Wait for the client's end and return its exit status; may be cancelled."""
        return await asyncio.shield(self._ended)

    def failure(self, status: int) -> Refusal:
        return Refusal(Reason.DESKTOP_FAILED, f"the RDP client ended with {status} {self._error}".rstrip())

    def kill(self) -> None:
        """End the client at once: its window goes with it. By pidfd, so never another process of the same number."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def gone(self) -> None:
        """Kill the client and wait until it is dead; Refusal(INTERNAL) if it does not die."""
        self.kill()
        try:
            async with asyncio.timeout(GONE_SECONDS):
                await asyncio.shield(self._ended)
        except TimeoutError as error:
            raise Refusal(Reason.INTERNAL, f"the RDP client still lives after {GONE_SECONDS:g} s") from error

    def _heard(self) -> None:
        try:
            data = os.read(self._terminal, 65536)
        except BlockingIOError:
            return
        except OSError:  # EIO: the other end is closed, pty(7)
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._terminal)
            return
        text = self._tail + data
        if _CONNECTED in text:
            self._news.set()
        if found := _ERROR.search(text):
            self._error = found[0].decode("ascii")
        self._tail = text[-_TAIL:]

    def _exited(self) -> None:
        loop = asyncio.get_running_loop()
        if select.select([self._terminal], [], [], 0)[0]:
            self._heard()  # its last words
        loop.remove_reader(self._pidfd)
        loop.remove_reader(self._terminal)
        os.close(self._terminal)
        status = self._process.wait()
        self._ended.set_result(status)
        self._news.set()
        os.close(self._pidfd)


def _kill(spawned: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    with contextlib.suppress(OSError, KeyError):  # it did not start
        spawned.result().kill()


def _spawn(access: DesktopAccess, place: Place, line: int) -> subprocess.Popen[bytes]:
    """Start the client from the thread that lives in the namespace: the child inherits it; blocking."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as pipe:  # far below the pipe's capacity: never blocks
            pipe.write("".join(f"{argument}\n" for argument in client_arguments(access)).encode())
        return subprocess.Popen(
            client_command(place.user, reader),
            stdin=subprocess.DEVNULL,
            stdout=line,
            stderr=line,
            pass_fds=(reader,),
            env=dict(client_environment(place)),
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(reader)


def client_environment(place: Place) -> Mapping[str, str]:
    """Return the client's whole environment. Without HOME it ends at once."""
    path = os.environ.get("PATH", "/usr/sbin:/usr/bin")
    return {"PATH": path, "HOME": place.home, "DISPLAY": place.display, "LANG": "C.UTF-8"}
