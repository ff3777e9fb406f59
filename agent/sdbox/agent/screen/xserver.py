"""Keep Xwayland running and let the RDP client's user in.

wlroots starts Xwayland at the first connection and lets it end with the last client; a start costs 0.7 s and more, on
the researcher's time. One idle client stays connected from boot on. Only the kiosk's own user may connect by default:
this client adds exactly one other, and then publishes the display's number for the agent.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from sdbox.agent.screen import x11
from sdbox.agent.screen.toolkit import GLib

RETRY_MS = 1_000


class XKeepAlive:
    """One idle X client. While it is served, `publish` holds the display (":0"); otherwise it does not exist."""

    def __init__(self, display: str, *, user: str, publish: Path) -> None:
        self._display = display
        self._user = user
        self._publish = publish
        self._channel: socket.socket | None = None
        self._said = ""  # the last failure told: it is not repeated at each retry
        self._waiting = b""
        self._setup = -1  # bytes of the setup answer still to come; -1 before its header

    def start(self) -> bool:
        """Connect; Xwayland answers when it is up. False: usable as a GLib timeout."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path = x11.socket_path(self._display)
        try:
            channel.connect(path)
            # The client is in another network namespace, out of reach of the abstract socket: it needs this one, which
            # wlroots makes for its own user. Who may connect is decided by the server, per user, not by this mode.
            Path(path).chmod(0o777)
        except OSError as error:
            channel.close()
            self._fail(str(error))
            return False
        channel.setblocking(False)
        channel.send(x11.SETUP)
        self._channel, self._waiting, self._setup = channel, b"", -1
        GLib.io_add_watch(
            channel.fileno(), GLib.PRIORITY_LOW, GLib.IOCondition.IN | GLib.IOCondition.HUP, self._readable
        )
        return False

    def _readable(self, *_arguments: Any) -> bool:  # noqa: ANN401 - GIOFunc
        try:
            data = self._channel.recv(65536) if self._channel else b""
            if not data:
                raise ConnectionError("Xwayland ended")
            self._take(data)
        except OSError as error:
            self._fail(str(error))
            return False
        return True

    def _take(self, data: bytes) -> None:
        self._waiting += data
        if self._setup < 0 and len(self._waiting) >= x11.HEADER:
            self._setup = x11.setup_length(self._waiting[: x11.HEADER]) + x11.HEADER
        if self._setup > 0 and len(self._waiting) >= self._setup:
            self._waiting, self._setup = self._waiting[self._setup :], 0
            self._send(x11.allow_user(self._user) + x11.SYNC)
        while self._setup == 0 and len(self._waiting) >= x11.REPLY:
            kind, self._waiting = self._waiting[0], self._waiting[x11.REPLY :]
            self._answered(kind)

    def _answered(self, kind: int) -> None:
        if kind == x11.ERROR:
            raise ConnectionError(f"the X server does not let user {self._user} in")
        if kind == x11.ANSWER:
            self._publish.write_text(f"{self._display}\n")
            self._publish.chmod(0o644)

    def _send(self, data: bytes) -> None:
        if self._channel:
            self._channel.sendall(data)

    def _fail(self, why: str) -> None:
        if why != self._said:
            print(f"sdbox-screen: X keep-alive: {why}", file=sys.stderr)
            self._said = why
        self._publish.unlink(missing_ok=True)
        if self._channel:
            self._channel.close()
            self._channel = None
        GLib.timeout_add(RETRY_MS, self.start)
