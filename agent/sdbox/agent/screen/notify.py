"""Tell the service manager that the first picture is on the screen (sd_notify(3), protocol of NOTIFY_SOCKET)."""

from __future__ import annotations

import os
import socket


def notify_ready() -> None:
    """Send READY=1; do nothing where no service manager asked for it."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        channel.sendall(b"READY=1")
