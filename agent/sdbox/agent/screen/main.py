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


def main() -> None:
    """Run until cage ends. Exit 1 if there is no display to show anything on."""
    GLib.set_prgname("sdbox-screen")
    GLib.set_application_name("SD-Box")
    if not Gtk.init_check():
        print("sdbox-screen: no Wayland display: start it in cage", file=sys.stderr)
        sys.exit(1)
    Gtk.Settings.get_default().set_property("gtk-enable-animations", False)
    Screen(_first_frame).run()
    GLib.MainLoop().run()


def _first_frame() -> None:
    notify_ready()
    display, runtime = os.environ.get("DISPLAY"), os.environ.get("XDG_RUNTIME_DIR")
    if display and runtime:
        XKeepAlive(display, user=RDP_USER, publish=Path(runtime) / "display").start()
