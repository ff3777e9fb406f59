"""`sdbox-screen`: the program that cage runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sdbox.agent.screen.notify import notify_ready
from sdbox.agent.screen.screen import Screen
from sdbox.agent.screen.toolkit import GLib, Gtk
from sdbox.agent.screen.xserver import XKeepAlive

RDP_USER = "sdbox-rdp"
SCREEN_READERS = (Path("/usr/bin/orca"), Path("/usr/bin/brltty"))  # with one of them the accessibility bus is used


def main() -> None:
    """Run until cage ends. Exit 1 if there is no display to show anything on."""
    if not any(reader.exists() for reader in SCREEN_READERS):
        os.environ.pop(
            "AT_SPI_BUS_ADDRESS", None
        )  # nobody listens there, and its start is a second of an emulated boot
        os.environ["GTK_A11Y"] = "none"
    GLib.set_prgname("sdbox-screen")
    GLib.set_application_name("SD-Box")
    if not Gtk.init_check():
        print("sdbox-screen: no Wayland display: start it in cage", file=sys.stderr)
        sys.exit(1)
    Gtk.Settings.get_default().set_property("gtk-enable-animations", False)
    Screen(notify_ready, lambda: GLib.idle_add(_start_x)).run()
    GLib.MainLoop().run()


def _start_x() -> None:
    """Start Xwayland, once the box asks for a card: before that it would only delay that."""
    display, runtime = os.environ.get("DISPLAY"), os.environ.get("XDG_RUNTIME_DIR")
    if display and runtime:
        XKeepAlive(display, user=RDP_USER, publish=Path(runtime) / "display").start()
