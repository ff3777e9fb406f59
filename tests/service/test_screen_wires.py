"""The screen's two hand-made wires against the real thing: an X server, and a service manager's socket."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sdbox.agent.screen import x11
from sdbox.agent.screen.notify import notify_ready
from sdbox.host.tools import tools_command

SECONDS = 20.0


@pytest.fixture(scope="module")
def display() -> Iterator[int]:
    """Number of the display of an Xvfb that lets only its own user in."""
    reader, writer = os.pipe()
    argv = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "64x64x24"]
    with subprocess.Popen(tools_command(argv), pass_fds=[writer], stderr=subprocess.DEVNULL) as server:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            number = pipe.readline()
        try:
            yield int(number)
        finally:
            server.kill()


@contextmanager
def _client(display: int) -> Iterator[socket.socket]:
    # Xvfb's file is inside the tools tree; its abstract socket is in the network namespace both share.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(SECONDS)
        channel.connect("\0" + x11.socket_path(f":{display}"))
        channel.sendall(x11.SETUP)
        _read(channel, x11.setup_length(_read(channel, x11.HEADER)))
        yield channel


def _read(channel: socket.socket, count: int) -> bytes:
    data = channel.recv(count, socket.MSG_WAITALL)
    assert len(data) == count, "the X server ended the connection"
    return data


def test_an_x_server_takes_the_keep_alive_client_and_lets_one_user_in(display: int) -> None:
    with _client(display) as channel:
        channel.sendall(x11.allow_user("nobody") + x11.SYNC)
        assert _read(channel, x11.REPLY)[0] == x11.ANSWER
        channel.sendall(bytes.fromhex("6e000100"))  # ListHosts, opcode 110
        header = _read(channel, x11.REPLY)
        hosts = _read(channel, 4 * int.from_bytes(header[4:8], "little"))
    assert header[1] == 1, "access control must stay on"
    assert b"localuser\0nobody" in hosts


def test_an_x_server_refuses_a_user_that_does_not_exist(display: int) -> None:
    with _client(display) as channel:
        channel.sendall(x11.allow_user("no-such-user") + x11.SYNC)
        assert _read(channel, x11.REPLY)[0] == x11.ERROR


def test_readiness_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify_ready()
        notify_ready()
        assert manager.recv(64) == b"READY=1"
        with pytest.raises(BlockingIOError):
            manager.recv(64)
