"""The tunnel's control protocol: the real wireguard-go and the fake of the service tests keep the same promises."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sdbox.gateway.wireguard import Peer, UserspaceTunnel, WireGuardError
from sdbox.host.tools import tools_command
from tests.service.uapi_fake import running_uapi

SOCKETS = Path("/run/wireguard")
START_SECONDS = 10.0


@contextmanager
def running_wireguard_go() -> Iterator[Path]:
    """Run wireguard-go in a network namespace of its own; yields its control socket."""
    name = f"sdb{os.getpid()}-wg"
    interface = f"wg{os.getpid() % 10**8}c"
    SOCKETS.mkdir(exist_ok=True)
    socket = SOCKETS / f"{interface}.sock"
    subprocess.run(["ip", "netns", "add", name], check=True)
    command = tools_command(["wireguard-go", "--foreground", interface], binds=[SOCKETS])
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        process = stack.enter_context(
            subprocess.Popen(["ip", "netns", "exec", name, *command], stderr=subprocess.DEVNULL)
        )
        stack.callback(process.terminate)
        deadline = time.monotonic() + START_SECONDS
        while not socket.exists():
            assert process.poll() is None, "wireguard-go ended"
            assert time.monotonic() < deadline, "waited for wireguard-go's control socket"
            time.sleep(0.02)  # between two looks of a wait with a deadline
        yield socket


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.root)])
def control(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if request.param == "real":
        with running_wireguard_go() as socket:
            yield socket
    else:
        path = tmp_path_factory.mktemp("uapi") / "wg.sock"
        with running_uapi(path):
            yield path


def peer(number: int, host: int = 2) -> Peer:
    return Peer(bytes([number]) * 32, os.urandom(32), IPv4Address(f"10.64.1.{host}"))


def test_a_reset_gives_a_new_key_and_no_peers(control: Path) -> None:
    async def way() -> None:
        tunnel = UserspaceTunnel(control)
        first = await tunnel.reset(51899)
        await tunnel.add(peer(1))
        second = await tunnel.reset(51899)
        assert len(first) == len(second) == 32
        assert first != second
        assert await tunnel.peers() == frozenset()

    asyncio.run(way())


def test_peers_come_and_go(control: Path) -> None:
    async def way() -> None:
        tunnel = UserspaceTunnel(control)
        await tunnel.reset(51899)
        await tunnel.add(peer(1, 2))
        await tunnel.add(peer(2, 3))
        assert await tunnel.peers() == {bytes([1]) * 32, bytes([2]) * 32}
        await tunnel.remove(bytes([1]) * 32)
        assert await tunnel.peers() == {bytes([2]) * 32}
        await tunnel.remove(bytes([9]) * 32)  # not there: no error, and it does not appear
        assert await tunnel.peers() == {bytes([2]) * 32}

    asyncio.run(way())


def test_a_tunnel_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WireGuardError):
        asyncio.run(UserspaceTunnel(tmp_path / "none.sock").reset(51899))
