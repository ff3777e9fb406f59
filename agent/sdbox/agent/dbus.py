"""org.sdbox.Agent1 on the system bus, for the screen. The only file that knows dbus-next.

Who may own the name and who may call is the bus's policy (`agent/dbus/org.sdbox.Agent1.conf`). A PIN comes as the read
end of a pipe, so it never passes through the bus daemon (S8).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, PropertyAccess, RequestNameReply
from dbus_next.errors import DBusError, InvalidAddressError
from dbus_next.service import ServiceInterface, dbus_property, method

from sdbox.agent import journal
from sdbox.agent.events import Acknowledge, Cancel, Event, Pick
from sdbox.agent.view import View
from sdbox.protocol.reasons import Reason, Refusal

NAME: Final = "org.sdbox.Agent1"
PATH: Final = "/org/sdbox/Agent1"
CONNECT_SECONDS: Final = 10.0
PIN_SECONDS: Final = 2.0
PIN_LIMIT: Final = 64

# dbus-next reads the D-Bus types out of the annotations; so their names must mean something to a type checker too.
s = str
i = int
h = int


@dataclass(frozen=True, slots=True)
class Identity:
    """What the box says about itself."""

    box_id: str
    version: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where the screen's calls go. `first_read` is called once, when a screen reads the properties."""

    post: Callable[[Event], None]
    submit_pin: Callable[[bytearray], None]
    first_read: Callable[[], None]


class AgentInterface(ServiceInterface):
    """The interface: properties show the view, methods post events. Its methods are called by dbus-next."""

    def __init__(self, identity: Identity, inputs: Inputs) -> None:
        super().__init__(NAME)
        self._identity = identity
        self._inputs = inputs
        self._view = View()
        self._read = False
        self._readers: set[asyncio.Task[None]] = set()

    def show(self, view: View) -> None:
        """Publish `view`: what changed goes out as one PropertiesChanged."""
        before, self._view = _properties(self._view), view
        after = _properties(view)
        changed = {name: value for name, value in after.items() if before[name] != value}
        if changed:
            self.emit_properties_changed(changed)

    @dbus_property(access=PropertyAccess.READ)
    def State(self) -> s:  # noqa: N802 - D-Bus name
        if not self._read:
            self._read = True
            self._inputs.first_read()
        return self._view.state

    @dbus_property(access=PropertyAccess.READ)
    def Reason(self) -> s:  # noqa: N802 - D-Bus name
        return self._view.reason

    @dbus_property(access=PropertyAccess.READ)
    def Tries(self) -> i:  # noqa: N802 - D-Bus name
        return self._view.tries

    @dbus_property(access=PropertyAccess.READ)
    def Projects(self) -> "a(ssss)":  # type: ignore[valid-type,name-defined] # noqa: F821, N802, UP037 - D-Bus type and name
        return _properties(self._view)["Projects"]

    @dbus_property(access=PropertyAccess.READ)
    def Current(self) -> s:  # noqa: N802 - D-Bus name
        return self._view.current

    @dbus_property(access=PropertyAccess.READ)
    def BoxId(self) -> s:  # noqa: N802 - D-Bus name
        return self._identity.box_id

    @dbus_property(access=PropertyAccess.READ)
    def Version(self) -> s:  # noqa: N802 - D-Bus name
        return self._identity.version

    @method(name="Pick")
    def pick(self, project: s) -> None:
        self._inputs.post(Pick(project))

    @method(name="Cancel")
    def cancel(self) -> None:
        self._inputs.post(Cancel())

    @method(name="Acknowledge")
    def acknowledge(self) -> None:
        self._inputs.post(Acknowledge())

    @method(name="SubmitPin")
    def submit_pin(self, pin: h) -> None:
        reading = asyncio.ensure_future(self._take_pin(pin))
        self._readers.add(reading)
        reading.add_done_callback(self._readers.discard)

    async def _take_pin(self, descriptor: int) -> None:
        try:
            self._inputs.submit_pin(await read_pin(descriptor))
        except (OSError, ValueError, TimeoutError) as error:
            journal.note(f"PIN not taken: {type(error).__name__}")


async def read_pin(descriptor: int) -> bytearray:
    """Read a PIN to the end of the pipe `descriptor`, which is closed; ValueError if empty or too long.

    TimeoutError if the other end stays open: a caller must not be able to hold the agent.
    """
    pin = bytearray()
    try:
        os.set_blocking(descriptor, False)
        async with asyncio.timeout(PIN_SECONDS):
            while part := await _next_part(descriptor):
                pin += part
                _check_length(pin)
        _check_length(pin)
    except BaseException:
        pin[:] = bytes(len(pin))
        raise
    finally:
        os.close(descriptor)
    return pin


def _check_length(pin: bytearray) -> None:
    if not 0 < len(pin) <= PIN_LIMIT:
        raise ValueError("a PIN has 1 to 64 bytes")


async def _next_part(descriptor: int) -> bytes:
    """Wait until `descriptor` has something to read, and read it; b"" at the end."""
    ready, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, PIN_LIMIT + 1)


async def serve(interface: AgentInterface, *, address: str | None = None) -> MessageBus:
    """Own the name on the system bus (or the bus at `address`); Refusal(INTERNAL) if the bus says no."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            bus = await MessageBus(address, BusType.SYSTEM, negotiate_unix_fd=True).connect()
            bus.export(PATH, interface)
            reply = await bus.request_name(NAME)
    except (OSError, DBusError, InvalidAddressError, TimeoutError, EOFError) as error:
        raise Refusal(Reason.INTERNAL, f"system bus: {type(error).__name__}") from error
    if reply is not RequestNameReply.PRIMARY_OWNER:
        bus.disconnect()
        raise Refusal(Reason.INTERNAL, f"{NAME} is owned by another")
    return bus


def _properties(view: View) -> dict[str, Any]:
    projects = [[offer.project, offer.title_fr, offer.title_en, offer.reason or ""] for offer in view.projects]
    return {
        "State": view.state,
        "Reason": view.reason,
        "Tries": view.tries,
        "Projects": projects,
        "Current": view.current,
    }
