"""The one file that imports PyGObject: GTK 4 and what comes with it, without the half second that asyncio would cost.

PyGObject 3.50 imports asyncio for event-loop integration that this program does not use; under emulation that import is
a visible part of the time to the first picture. A stand-in without a running loop takes its place (PyGObject then uses
its own dummy loop); it stays in `sys.modules` because PyGObject asks it again in each main loop. The same for its
command-line options, which bring optparse, gettext and locale, and which nothing here has.
"""

from __future__ import annotations

import sys
from types import ModuleType


def _asyncio_stand_in() -> ModuleType:
    module = ModuleType("asyncio")
    module.__dict__["_get_running_loop"] = lambda: None
    module.__dict__["InvalidStateError"] = type("InvalidStateError", (Exception,), {})  # looked up when _gi is loaded
    return module


sys.modules.setdefault("asyncio", _asyncio_stand_in())
sys.modules.setdefault("gi._option", ModuleType("gi._option"))

try:
    import gi
    from gi.docstring import set_doc_string_generator

    for _namespace, _version in (("Gdk", "4.0"), ("Graphene", "1.0"), ("Gsk", "4.0"), ("Gtk", "4.0")):
        gi.require_version(_namespace, _version)
except (ImportError, ValueError) as _absent:
    # Only `sdbox-screen` comes here, and Debian's PyGObject is on the box alone.
    print(f"sdbox-screen: {_absent}: it runs on the box, or with python3-gi and gir1.2-gtk-4.0", file=sys.stderr)
    raise SystemExit(2) from None

set_doc_string_generator(lambda _info: "")  # nobody reads them here, and each is a walk through the typelib

from gi.repository import Gdk, Gio, GLib, Graphene, Gsk, Gtk  # noqa: E402 - after require_version

__all__ = ["GLib", "Gdk", "Gio", "Graphene", "Gsk", "Gtk"]
