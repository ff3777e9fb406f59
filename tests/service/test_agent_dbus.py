"""org.sdbox.Agent1 on a real bus with the real policy; users of this machine stand in for the box's."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.errors import DBusError
from dbus_next.message import Message

from sdbox.agent.dbus import CALLS, NAME, PATH, PROPERTIES, AgentInterface, Identity, Inputs, leave, serve, watch
from sdbox.agent.events import Acknowledge, Cancel, Confirm, Event, Pick
from sdbox.agent.view import View
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import Offer

pytestmark = pytest.mark.root
POLICY = Path(__file__).parents[2] / "agent" / "dbus" / "org.sdbox.Agent1.conf"
# What Debian's system.conf allows before any service's policy; the rest of that file is about places.
BUS = """<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default">
  <allow user="*"/><deny own="*"/><deny send_type="method_call"/><allow send_type="signal"/>
  <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
  <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
  <allow receive_type="signal"/><allow send_destination="org.freedesktop.DBus"/>
</policy><include>{policy}</include></busconfig>"""


@contextmanager
def bus_of(folder: Path, kiosk: str) -> Iterator[str]:
    """Run a bus whose policy calls `kiosk` what the box calls sdbox-kiosk; give its address."""
    policy, config, socket = folder / "policy.conf", folder / "bus.conf", folder / "socket"
    policy.write_text(POLICY.read_text(encoding="utf-8").replace("sdbox-kiosk", kiosk))
    config.write_text(BUS.format(socket=socket, policy=policy))
    for place in (folder, *folder.parents[:3]):
        place.chmod(place.stat().st_mode | 0o011)
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1", "--nopidfile"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


class Heard:
    """What the interface hands on."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.pins: asyncio.Queue[bytearray] = asyncio.Queue()
        self.readers = 0
        self.interface = AgentInterface(
            Identity("box", "1.0"), Inputs(self.events.append, self.pins.put_nowait, self._first_read)
        )

    def _first_read(self) -> None:
        self.readers += 1


Scene = Callable[[Heard, MessageBus], Coroutine[Any, Any, None]]


def play(folder: Path, scene: Scene) -> None:
    """Serve the interface and let a client act, both as root."""

    async def run(address: str) -> None:
        heard = Heard()
        bus = await serve(heard.interface, address=address)
        client = await MessageBus(address, negotiate_unix_fd=True).connect()
        try:
            async with asyncio.timeout(10):
                await scene(heard, client)
        finally:
            leave(client)
            leave(bus)

    with bus_of(folder, "root") as address:
        asyncio.run(run(address))


def test_a_bus_that_is_gone_is_noticed_and_survived(tmp_path: Path) -> None:
    async def scene() -> None:
        heard, gone = Heard(), asyncio.Event()
        with bus_of(tmp_path, "root") as address:
            bus = await serve(heard.interface, address=address)
            watching = asyncio.ensure_future(watch(bus, lambda _: gone.set()))
            await asyncio.sleep(0)
            assert not gone.is_set()
        async with asyncio.timeout(5):
            await gone.wait()
            await watching
        heard.interface.show(View(state="refused", reason="internal"))

    asyncio.run(scene())


async def call(client: MessageBus, member: str, *body: object, fds: tuple[int, ...] = ()) -> Message:
    signature = CALLS.get(member, "")
    message = Message(NAME, PATH, NAME, member, signature=signature, body=list(body), unix_fds=list(fds))
    reply = await client.call(message)
    assert reply is not None
    return reply


async def get_all(client: MessageBus) -> dict[str, object]:
    reply = await client.call(Message(NAME, PATH, PROPERTIES, "GetAll", signature="s", body=[NAME]))
    assert reply is not None
    assert reply.message_type is MessageType.METHOD_RETURN, reply.body
    return {name: variant.value for name, variant in reply.body[0].items()}


def test_properties_and_their_changes(tmp_path: Path) -> None:
    async def scene(heard: Heard, client: MessageBus) -> None:
        changes: asyncio.Queue[Message] = asyncio.Queue()

        def keep(message: Message) -> None:
            if message.member == "PropertiesChanged":
                changes.put_nowait(message)

        client.add_message_handler(keep)
        await client.call(
            Message("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch",
                    signature="s", body=[f"type='signal',path='{PATH}'"])
        )  # fmt: skip
        assert (await get_all(client))["State"] == "starting"
        offers = (
            Offer("atlas", "Atlas fr", "Atlas en", None, b"a", fresh=True),
            Offer("cassini", "f", "e", "project-no-bubble", b"c"),
        )
        heard.interface.show(View("pick", projects=offers))
        name, changed, invalidated = (await changes.get()).body
        assert (name, set(changed), invalidated) == (NAME, {"State", "Projects"}, [])
        assert await get_all(client) == {
            "State": "pick", "Reason": "", "Tries": -1, "Current": "", "BoxId": "box", "Version": "1.0",
            "Projects": [
                ["atlas", "Atlas fr", "Atlas en", "", True], ["cassini", "f", "e", "project-no-bubble", False]
            ],
        }  # fmt: skip
        assert heard.readers == 1

    play(tmp_path, scene)


def test_calls_become_events(tmp_path: Path) -> None:
    async def scene(heard: Heard, client: MessageBus) -> None:
        for member, body in (("Pick", ["atlas"]), ("Cancel", []), ("Acknowledge", []), ("Confirm", [])):
            assert (await call(client, member, *body)).message_type is MessageType.METHOD_RETURN
        assert heard.events == [Pick("atlas"), Cancel(), Acknowledge(), Confirm()]
        assert (await call(client, "Reboot")).message_type is MessageType.ERROR
        wrong = await client.call(Message(NAME, PATH, NAME, "Pick", signature="i", body=[1]))
        assert wrong is not None
        assert wrong.message_type is MessageType.ERROR
        assert len(heard.events) == 4

    play(tmp_path, scene)


def test_a_pin_comes_by_pipe(tmp_path: Path) -> None:
    async def scene(heard: Heard, client: MessageBus) -> None:
        for text in (b"123456", b"", b"7" * 65, b"654321"):
            reader, writer = os.pipe()
            os.write(writer, text)
            os.close(writer)
            await call(client, "SubmitPin", 0, fds=(reader,))
            os.close(reader)
        assert {bytes(await heard.pins.get()), bytes(await heard.pins.get())} == {b"123456", b"654321"}
        assert heard.pins.empty()

    play(tmp_path, scene)


def test_a_pipe_that_stays_open_holds_nobody(tmp_path: Path) -> None:
    async def scene(heard: Heard, client: MessageBus) -> None:
        reader, writer = os.pipe()
        await call(client, "SubmitPin", 0, fds=(reader,))
        assert (await get_all(client))["State"] == "starting"
        os.write(writer, b"1")
        os.close(writer)
        assert bytes(await heard.pins.get()) == b"1"
        os.close(reader)

    play(tmp_path, scene)


def send(address: str, user: str, member: str) -> subprocess.CompletedProcess[str]:
    command = ["setpriv", f"--reuid={user}", "--clear-groups", "dbus-send", f"--bus={address}", f"--dest={NAME}"]
    command += ["--print-reply", PATH, f"{NAME}.{member}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize(("user", "allowed"), [("nobody", True), ("daemon", False), ("root", False)])
def test_only_the_screens_user_may_call(tmp_path: Path, user: str, allowed: bool) -> None:  # noqa: FBT001 - parameter
    async def run(address: str) -> tuple[subprocess.CompletedProcess[str], list[Event]]:
        heard = Heard()
        bus = await serve(heard.interface, address=address)
        done = await asyncio.to_thread(send, address, user, "Cancel")
        leave(bus)
        return done, heard.events

    with bus_of(tmp_path, "nobody") as address:
        done, events = asyncio.run(run(address))
    assert (done.returncode == 0, events) == (allowed, [Cancel()] if allowed else [])
    assert allowed or "AccessDenied" in done.stderr


def test_nobody_else_may_own_the_name_and_a_taken_one_is_a_refusal(tmp_path: Path) -> None:
    async def twice(address: str) -> None:
        first, second = Heard(), Heard()
        bus = await serve(first.interface, address=address)
        with pytest.raises(Refusal) as refused:
            await serve(second.interface, address=address)
        assert refused.value.reason is Reason.INTERNAL
        leave(bus)

    with bus_of(tmp_path, "nobody") as address:
        asyncio.run(twice(address))
        command = ["setpriv", "--reuid=nobody", "--clear-groups", "dbus-send", f"--bus={address}", "--print-reply"]
        command += ["--dest=org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.RequestName"]
        done = subprocess.run([*command, f"string:{NAME}", "uint32:0"], capture_output=True, text=True, check=False)
    assert "AccessDenied" in done.stderr


def test_without_a_bus_there_is_a_reason(tmp_path: Path) -> None:
    async def run() -> None:
        await serve(Heard().interface, address=f"unix:path={tmp_path}/none")

    with pytest.raises((Refusal, DBusError)) as refused:
        asyncio.run(run())
    assert isinstance(refused.value, Refusal)
