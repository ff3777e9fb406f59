"""The screen's two windows under cage, which shows and focuses the newest toplevel and falls back to the one before.

The main window stays for good. The picker's window exists only in the state `picker`: made then, it is newer than the
RDP client's and so covers it; destroyed on leaving, it uncovers the client again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sdbox.agent.screen.board import build_board, focus_target
from sdbox.agent.screen.keys import Key, key_of
from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.style import DESIGN_HEIGHT, style_sheet
from sdbox.agent.screen.toolkit import Gdk, Gtk
from sdbox.agent.screen.view import View


class Windows:
    """Shows views; hands every known key to `on_key`; calls `on_first_frame` once when a picture is on the screen."""

    def __init__(self, on_key: Callable[[Key], None], on_first_frame: Callable[[], None]) -> None:
        self._on_key = on_key
        self._on_first_frame = on_first_frame
        self._scale = 1.0
        self._shown: View | None = None
        self._apply_style()
        self._main = self._window()
        self._picker: Any = None

    def show(self, view: View) -> None:
        """Draw `view`, in its own window if it is the picker's, and let a screen reader say what changed."""
        if view == self._shown:
            return
        self._draw(self._main, view)
        if view.state is ScreenState.PICKER:
            self._picker = self._picker or self._window()
            self._draw(self._picker, view)
            self._picker.present()
        elif self._picker is not None:
            self._picker.destroy()
            self._picker = None
        if self._shown is None or self._shown.announcement != view.announcement:
            _announce(self._picker or self._main, view.announcement)
        self._shown = view

    def present(self) -> None:
        """Map the main window; the first frame follows."""
        self._main.connect("map", self._mapped)
        self._main.present()

    def _mapped(self, window: Any) -> None:  # noqa: ANN401 - GtkWindow
        clock = window.get_frame_clock()
        handler = 0

        def painted(_clock: object) -> None:
            clock.disconnect(handler)
            self._on_first_frame()

        handler = clock.connect_after("after-paint", painted)

    def _window(self) -> Any:  # noqa: ANN401 - GtkWindow
        window = Gtk.Window(decorated=False, title="SD-Box")
        window.fullscreen()
        window.set_cursor_from_name("none")
        keys = Gtk.EventControllerKey(propagation_phase=Gtk.PropagationPhase.CAPTURE)
        keys.connect("key-pressed", self._pressed)
        window.add_controller(keys)
        return window

    def _draw(self, window: Any, view: View) -> None:  # noqa: ANN401 - GtkWindow
        board = build_board(view, self._scale)
        window.set_title(f"SD-Box. {view.status}")
        window.set_child(board)
        target = focus_target(board)
        if target is not None:
            target.grab_focus()

    def _pressed(self, _keys: object, keyval: int, code: int, _modifiers: object) -> bool:
        key = key_of(Gdk.keyval_name(keyval), code)
        if key is not None:
            self._on_key(key)
        return True  # nothing else in GTK sees a key: no Tab ring, no inspector, no accelerators

    def _apply_style(self) -> None:
        display = Gdk.Display.get_default()
        monitor = display.get_monitors().get_item(0)
        height = monitor.get_geometry().height if monitor else DESIGN_HEIGHT
        self._scale = max(0.7, height / DESIGN_HEIGHT)
        provider = Gtk.CssProvider()
        provider.load_from_string(style_sheet(height))
        Gtk.StyleContext.add_provider_for_display(display, provider, Gtk.STYLE_PROVIDER_PRIORITY_APPLICATION)


def _announce(window: Any, text: str) -> None:  # noqa: ANN401 - GtkWindow
    if "AT_SPI_BUS_ADDRESS" in os.environ:  # GTK 4.18 crashes in announce() where it was never given a bus
        window.announce(text, Gtk.AccessibleAnnouncementPriority.HIGH)
