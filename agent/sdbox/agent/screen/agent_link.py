"""The agent on the system bus, as the screen sees it: values in, calls out. Its name gone, nothing it said stays."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from sdbox.agent.screen.model import AgentProperties, absent, parse_properties
from sdbox.agent.screen.toolkit import Gio, GLib

NAME = "org.sdbox.Agent1"
PATH = "/org/sdbox/Agent1"
INTERFACE = "org.sdbox.Agent1"
PROPERTIES = "org.freedesktop.DBus.Properties"
CALL_MS = 5_000
RETRY_MS = 200  # the screen is up before the bus is: look again until it is there


class AgentLink:
    """Calls `on_change` with the agent's properties at each change, and with `absent` ones while there is no agent."""

    def __init__(self, on_change: Callable[[AgentProperties], None]) -> None:
        self._on_change = on_change
        self._bus: Any = None
        self._owner = ""
        self._raw: dict[str, object] = {}
        self._last: AgentProperties | None = None

    def start(self) -> None:
        """Connect, and again whenever the bus is not there: the screen says "starting" for as long as that takes."""
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
        Gio.DBusConnection.new_for_address(address, flags, None, None, self._connected)

    def call(self, method: str, arguments: Any = None, descriptors: Any = None) -> None:  # noqa: ANN401 - GVariant, GUnixFDList
        """Call a method of the agent; without an agent nothing happens. The answer shows in the properties."""
        if self._bus is None or not self._owner:
            return
        self._bus.call_with_unix_fd_list(
            self._owner, PATH, INTERFACE, method, arguments, None,
            Gio.DBusCallFlags.NO_AUTO_START, CALL_MS, descriptors, None, _called, method,
        )  # fmt: skip

    def pick(self, project: str) -> None:
        self.call("Pick", GLib.Variant("(s)", (project,)))

    def submit_pin(self, reader: int) -> None:
        """Pass the read end of the PIN's pipe, and close our copy of it."""
        descriptors = Gio.UnixFDList.new()
        try:
            handle = descriptors.append(reader)
        finally:
            os.close(reader)
        self.call("SubmitPin", GLib.Variant("(h)", (handle,)), descriptors)

    def _connected(self, _source: object, result: Any) -> None:  # noqa: ANN401 - GAsyncResult
        try:
            self._bus = Gio.DBusConnection.new_for_address_finish(result)
        except GLib.Error:
            GLib.timeout_add(RETRY_MS, self._retry)
            return
        self._bus.set_exit_on_close(False)
        self._bus.connect("closed", self._lost)
        self._bus.signal_subscribe(
            NAME, PROPERTIES, "PropertiesChanged", PATH, INTERFACE, Gio.DBusSignalFlags.NONE, self._changed
        )
        Gio.bus_watch_name_on_connection(self._bus, NAME, Gio.BusNameWatcherFlags.NONE, self._appeared, self._vanished)

    def _retry(self) -> bool:
        self.start()
        return False

    def _lost(self, *_arguments: object) -> None:
        self._bus = None
        self._vanished()
        GLib.timeout_add(RETRY_MS, self._retry)

    def _appeared(self, _bus: object, _name: str, owner: str) -> None:
        self._owner = owner
        self._read_all()

    def _vanished(self, *_arguments: object) -> None:
        self._owner = ""
        self._raw = {}
        self._on_change(absent(self._last))

    def _read_all(self) -> None:
        self._bus.call(
            self._owner, PATH, PROPERTIES, "GetAll", GLib.Variant("(s)", (INTERFACE,)), None,
            Gio.DBusCallFlags.NO_AUTO_START, CALL_MS, None, self._read, self._owner,
        )  # fmt: skip

    def _read(self, bus: Any, result: Any, owner: str) -> None:  # noqa: ANN401 - GDBusConnection, GAsyncResult
        try:
            (raw,) = bus.call_finish(result).unpack()
        except GLib.Error as error:
            print(f"sdbox-screen: reading the agent's properties: {error.message}", file=sys.stderr)
            return
        if owner == self._owner:  # else the answer of an agent that is gone
            self._tell(raw)

    def _changed(self, *arguments: Any) -> None:  # noqa: ANN401 - GDBusSignalCallback
        sender, parameters = arguments[1], arguments[5]
        if sender != self._owner or not self._raw:
            return  # GetAll is under way and brings it
        _interface, changed, invalidated = parameters.unpack()
        if invalidated:
            self._read_all()
            return
        self._tell(self._raw | changed)

    def _tell(self, raw: dict[str, object]) -> None:
        self._raw, self._last = raw, parse_properties(raw)
        self._on_change(self._last)


def _called(bus: Any, result: Any, method: str) -> None:  # noqa: ANN401 - GDBusConnection, GAsyncResult
    try:
        bus.call_with_unix_fd_list_finish(result)
    except GLib.Error as error:
        print(f"sdbox-screen: {method}: {error.message}", file=sys.stderr)
