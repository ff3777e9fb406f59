"""org.sdbox.Agent1 on the system bus, for the screen. The only file that knows dbus-next.

Who may own the name and who may call is the bus's policy (`agent/dbus/org.sdbox.Agent1.conf`). A PIN comes as the read
end of a pipe, so it never passes through the bus daemon (S8).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageType, RequestNameReply
from dbus_next.errors import DBusError, InvalidAddressError
from dbus_next.message import Message
from dbus_next.signature import Variant

from sdbox.agent import journal
from sdbox.agent.events import Acknowledge, Cancel, Confirm, Event, Pick
from sdbox.agent.view import View
from sdbox.protocol.reasons import Reason, Refusal

NAME: Final = "org.sdbox.Agent1"
PATH: Final = "/org/sdbox/Agent1"
CONNECT_SECONDS: Final = 10.0
PIN_SECONDS: Final = 2.0
PIN_LIMIT: Final = 64

PROPERTIES: Final = "org.freedesktop.DBus.Properties"
SIGNATURES: Final = {
    "State": "s", "Reason": "s", "Tries": "i", "Projects": "a(ssssb)", "Current": "s", "BoxId": "s", "Version": "s",
}  # fmt: skip
CALLS: Final = {"Pick": "s", "SubmitPin": "h", "Cancel": "", "Acknowledge": "", "Confirm": ""}


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


class AgentInterface:
    """The object on the bus: properties show the view, calls post events."""

    def __init__(self, identity: Identity, inputs: Inputs) -> None:
        self._identity = identity
        self._inputs = inputs
        self._view = View()
        self._bus: MessageBus | None = None
        self._read = False
        self._readers: set[asyncio.Task[None]] = set()

    def attach(self, bus: MessageBus) -> None:
        """Answer what comes over `bus`, and send changes there."""
        self._bus = bus
        bus.add_message_handler(self._answer)

    def show(self, view: View) -> None:
        """Publish `view`: what changed goes out as one PropertiesChanged."""
        before = self._properties()
        self._view = view
        changed = {name: value for name, value in self._properties().items() if before[name].value != value.value}
        if changed and self._bus is not None and self._bus.connected:
            self._bus.send(Message.new_signal(PATH, PROPERTIES, "PropertiesChanged", "sa{sv}as", [NAME, changed, []]))

    def _properties(self) -> dict[str, Variant]:
        view, identity = self._view, self._identity
        projects = [
            [offer.project, offer.title_fr, offer.title_en, offer.reason or "", offer.fresh] for offer in view.projects
        ]
        values = (view.state, view.reason, view.tries, projects, view.current, identity.box_id, identity.version)
        return {name: Variant(kind, value) for (name, kind), value in zip(SIGNATURES.items(), values, strict=True)}

    def _answer(self, message: Message) -> Message | None:
        """Answer a call of ours; None leaves it to dbus-next, which answers with UnknownMethod."""
        if message.message_type is not MessageType.METHOD_CALL or message.path != PATH:
            return None
        if message.interface == PROPERTIES:
            return self._tell(message)
        if message.interface != NAME or CALLS.get(message.member) != message.signature:
            return None
        self._take(message)
        return Message.new_method_return(message)

    def _tell(self, message: Message) -> Message | None:
        properties = self._properties()
        match message.member, message.body:
            case "GetAll", [interface] if interface == NAME:
                if not self._read:
                    self._read = True
                    self._inputs.first_read()
                return Message.new_method_return(message, "a{sv}", [properties])
            case "Get", [interface, name] if interface == NAME and name in properties:
                return Message.new_method_return(message, "v", [properties[name]])
        return None

    def _take(self, message: Message) -> None:
        match message.member:
            case "Pick":
                self._inputs.post(Pick(message.body[0]))
            case "Cancel":
                self._inputs.post(Cancel())
            case "Acknowledge":
                self._inputs.post(Acknowledge())
            case "Confirm":
                self._inputs.post(Confirm())
            case "SubmitPin":
                reading = asyncio.ensure_future(self._take_pin(message.unix_fds, message.body[0]))
                self._readers.add(reading)
                reading.add_done_callback(self._readers.discard)

    async def _take_pin(self, descriptors: list[int], index: int) -> None:
        """A message may carry more descriptors than its one argument names: all are closed."""
        try:
            for extra in (d for place, d in enumerate(descriptors) if place != index):
                os.close(extra)
            self._inputs.submit_pin(await read_pin(descriptors[index]))
        except (OSError, ValueError, IndexError) as error:
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


async def serve(interface: AgentInterface, *, address: str = "") -> MessageBus:
    """Own the name on the system bus (or the bus at `address`); Refusal(INTERNAL) if the bus says no."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            bus = await MessageBus(address, BusType.SYSTEM, negotiate_unix_fd=True).connect()
            interface.attach(bus)
            reply = await bus.request_name(NAME)
    except (OSError, DBusError, InvalidAddressError, EOFError) as error:
        raise Refusal(Reason.INTERNAL, f"system bus: {type(error).__name__}") from error
    if reply is not RequestNameReply.PRIMARY_OWNER:
        raise Refusal(Reason.INTERNAL, f"{NAME} is owned by another")
    return bus


async def watch(bus: MessageBus, lost: Callable[[Exception], None]) -> None:
    """Call `lost` once the connection is gone: nobody sees any more what the box says, nor can say anything to it."""
    try:
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-next leaves it without a type
    except Exception as error:  # noqa: BLE001 - whatever the library makes of it, it is over
        lost(error)
    else:
        lost(EOFError("disconnected"))


def leave(bus: MessageBus) -> None:
    """Give the name back."""
    bus.disconnect()  # type: ignore[no-untyped-call]  # as above
