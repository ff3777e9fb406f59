"""The RDP client's process, with a fake `xfreerdp3` in PATH that writes down all it was given."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.agent.desktop import DesktopSession, Place
from sdbox.agent.namespace import Namespace
from sdbox.agent.session import Door
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import DesktopAccess
from tests.service.agent_bench import NoTunnel, alive

pytestmark = pytest.mark.root
SECRET = "one-time-" + "credential"
ACCESS = DesktopAccess("10.64.1.1", 3389, "ab" * 32, "u-1234", SECRET)
USER = "nobody"

# Prints as FreeRDP does: its information lines are held back by C's buffering unless standard output is a terminal.
FAKE = """#!/usr/bin/python3 -S
import json, os, sys, time
number = int(sys.argv[1].rpartition(":")[2])
told = {{
    "argv": sys.argv, "env": dict(os.environ), "lines": os.fdopen(number).read().splitlines(), "uid": os.getuid(),
    "groups": os.getgroups(), "net": os.readlink("/proc/self/ns/net"), "tty": os.isatty(1), "pid": os.getpid(),
    "status": open("/proc/self/status").read(), "fds": sorted(os.listdir("/proc/self/fd")),
}}
path = {told!r}
open(path + ".part", "w").write(json.dumps(told))
os.rename(path + ".part", path)
{then}
"""
CONNECTS = (
    'print("[INFO][com.freerdp.gdi] - [gdi_init_ex]: Local framebuffer format  PIXEL_FORMAT_BGRX32")\ntime.sleep(60)'
)
REFUSES = (
    'sys.stderr.write("[nla_recv_pdu]: ERRCONNECT_AUTHENTICATION_FAILED [0x00020009] secret words\\n")\nsys.exit(132)'
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.getuid() and "pytest" in str(folder):
            folder.chmod(folder.stat().st_mode | 0o011)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with Namespace() as namespace:
        yield Place(namespace, ":7", USER, str(tmp_path))


def fake_client(tmp_path: Path, then: str) -> Path:
    told = tmp_path / "told.json"
    (tmp_path / "xfreerdp3").write_text(FAKE.format(told=str(told), then=then))
    (tmp_path / "xfreerdp3").chmod(0o755)
    return told


def test_the_secret_goes_through_the_pipe_and_nowhere_else(place: Place, tmp_path: Path) -> None:
    told = fake_client(tmp_path, CONNECTS)

    async def scene() -> str:
        desktop = await DesktopSession.start(ACCESS, place)
        await desktop.shown()
        await desktop.gone()
        return told.read_text()

    text = asyncio.run(scene())
    seen = json.loads(text)
    assert f"/p:{SECRET}" in seen.pop("lines")
    assert SECRET not in json.dumps(seen)
    assert seen["env"].keys() == {"PATH", "HOME", "DISPLAY", "LANG"} | (seen["env"].keys() & {"LC_CTYPE"})
    assert seen["env"]["DISPLAY"] == ":7"
    assert len(seen["argv"]) == 2


def test_it_runs_with_no_privilege_in_the_namespace(place: Place, tmp_path: Path) -> None:
    told = fake_client(tmp_path, CONNECTS)

    async def scene() -> None:
        desktop = await DesktopSession.start(ACCESS, place)
        await desktop.shown()
        await desktop.gone()

    asyncio.run(scene())
    seen = json.loads(told.read_text())
    status = dict(line.split(":\t", 1) for line in seen["status"].splitlines() if ":\t" in line)
    assert seen["uid"] == pwd.getpwnam(USER).pw_uid
    assert seen["groups"] == []
    assert seen["net"] == f"net:[{os.fstat(place.namespace.fd).st_ino}]"
    assert (status["CapEff"], status["CapBnd"], status["CapPrm"]) == ("0" * 16, "0" * 16, "0" * 16)
    assert status["NoNewPrivs"] == "1"
    assert seen["tty"], "on a pipe the line that tells of the connection would be held back"
    assert len(seen["fds"]) <= 4, "standard input, output, error, and the one that lists"


def test_killing_is_at_once(place: Place, tmp_path: Path) -> None:
    told = fake_client(tmp_path, CONNECTS)

    async def scene() -> float:
        desktop = await DesktopSession.start(ACCESS, place)
        await desktop.shown()
        begun = time.monotonic()
        await desktop.gone()
        return time.monotonic() - begun

    assert asyncio.run(scene()) < 2.0, "it was asked to end and waited for, not killed"
    pid = json.loads(told.read_text())["pid"]
    assert not Path(f"/proc/{pid}").exists()


def test_a_refused_login_is_a_refusal_that_tells_only_the_code(place: Place, tmp_path: Path) -> None:
    fake_client(tmp_path, REFUSES)

    async def scene() -> None:
        desktop = await DesktopSession.start(ACCESS, place)
        await desktop.shown()

    with pytest.raises(Refusal) as refused:
        asyncio.run(scene())
    assert refused.value.reason is Reason.DESKTOP_FAILED
    assert refused.value.detail == "the RDP client ended with 132 ERRCONNECT_AUTHENTICATION_FAILED"


def test_the_exit_status_of_a_running_desktop_is_told(place: Place, tmp_path: Path) -> None:
    fake_client(tmp_path, CONNECTS.replace("time.sleep(60)", "sys.stdout.flush()\ntime.sleep(0.2)\nsys.exit(12)"))

    async def scene() -> int:
        desktop = await DesktopSession.start(ACCESS, place)
        await desktop.shown()
        async with asyncio.timeout(10):
            return await desktop.ended()

    assert asyncio.run(scene()) == 12


def test_a_start_that_is_cancelled_leaves_no_client(place: Place, tmp_path: Path) -> None:
    told = fake_client(tmp_path, CONNECTS)

    async def scene() -> None:
        starting = asyncio.ensure_future(DesktopSession.start(ACCESS, place))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()

    asyncio.run(scene())
    if told.exists():  # it may have lived long enough to say so
        state = Path(f"/proc/{json.loads(told.read_text())['pid']}/stat")
        assert not state.exists() or ") Z " in state.read_text()


class SlowPlace(Place):
    """A place whose client is just being started when the test looks."""

    reached, gate = threading.Event(), threading.Event()

    @property
    def home(self) -> str:  # read in the namespace's thread
        self.reached.set()
        assert self.gate.wait(10)
        return "/"


def test_a_start_that_is_cancelled_twice_leaves_no_client(place: Place, tmp_path: Path) -> None:
    told = fake_client(tmp_path, CONNECTS)
    slow = object.__new__(SlowPlace)
    for name in ("namespace", "display", "user"):
        object.__setattr__(slow, name, getattr(place, name))

    async def scene() -> None:
        starting = asyncio.ensure_future(DesktopSession.start(ACCESS, slow))
        assert await asyncio.to_thread(slow.reached.wait, 10)
        for _ in range(2):
            starting.cancel()
            await asyncio.sleep(0)
        slow.gate.set()
        await asyncio.wait({starting})
        await place.namespace.run(lambda: None)  # the client was started before it
        await asyncio.sleep(0)
        deadline = time.monotonic() + 1  # for a client that lives to say so
        while not told.exists() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.02)
        assert not told.exists() or not alive(json.loads(told.read_text())["pid"])

    asyncio.run(scene())


def test_a_client_is_not_forgotten_before_it_is_seen_dead(place: Place, tmp_path: Path) -> None:
    """Who waited for it may be cancelled: the wipe that follows waits again."""
    fake_client(tmp_path, CONNECTS)

    async def scene() -> None:
        desktop = await DesktopSession.start(ACCESS, place)
        await desktop.shown()
        door = Door(NoTunnel(), lambda _: DesktopSession.start(ACCESS, place))
        door._desktop = desktop
        waiting = asyncio.ensure_future(door.picture_gone())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await door.picture_gone()
        assert desktop._ended.done()

    asyncio.run(scene())


def test_without_a_client_there_is_a_reason(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    async def scene() -> None:
        await DesktopSession.start(ACCESS, place)

    with pytest.raises(Refusal) as refused:
        asyncio.run(scene())
    assert refused.value.reason is Reason.DESKTOP_FAILED
