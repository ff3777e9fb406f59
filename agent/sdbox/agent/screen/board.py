"""The picture: one View drawn with GTK widgets, each with the role and the name a screen reader needs."""

from __future__ import annotations

from typing import Any

from sdbox.agent.screen import texts as t
from sdbox.agent.screen.icons import GRID, ICONS, LINE
from sdbox.agent.screen.palette import BAND_HEIGHT, accent
from sdbox.agent.screen.toolkit import Gdk, Graphene, Gsk, Gtk
from sdbox.agent.screen.view import Row, View

LONG_HEADLINE = 34
ICON_SIZE = 150
DOT = "•"


class Icon(Gtk.Widget):  # type: ignore[misc]  # PyGObject has no types
    """A line drawing in one colour; says nothing to a screen reader, the headline does."""

    def __init__(self, path: str, colour: str, size: int) -> None:
        super().__init__(accessible_role=Gtk.AccessibleRole.PRESENTATION, valign=Gtk.Align.START)
        self._path = Gsk.Path.parse(path)
        self._colour = Gdk.RGBA()
        self._colour.parse(colour)
        self.set_size_request(size, size)

    def do_snapshot(self, snapshot: Any) -> None:  # noqa: ANN401 - GtkSnapshot
        scale = min(self.get_width(), self.get_height()) / GRID
        snapshot.scale(scale, scale)
        stroke = Gsk.Stroke.new(LINE)
        stroke.set_line_cap(Gsk.LineCap.ROUND)
        stroke.set_line_join(Gsk.LineJoin.ROUND)
        snapshot.push_stroke(self._path, stroke)
        snapshot.append_color(self._colour, Graphene.Rect().init(0, 0, GRID, GRID))
        snapshot.pop()


def label(text: str, *classes: str, role: Any = None, wrap: bool = False) -> Any:  # noqa: ANN401 - GTK types
    role = Gtk.AccessibleRole.LABEL if role is None else role
    widget = Gtk.Label(label=text, xalign=0.0, css_classes=list(classes), wrap=wrap, accessible_role=role)
    widget.update_property([Gtk.AccessibleProperty.LABEL], [text])  # a role such as STATUS takes no name from its text
    return widget


def box(*children: Any, classes: tuple[str, ...] = (), **properties: Any) -> Any:  # noqa: ANN401 - GTK types
    widget = Gtk.Box(css_classes=list(classes), **properties)
    for child in children:
        widget.append(child)
    return widget


def build_board(view: View, scale: float) -> Any:  # noqa: ANN401 - GtkWidget
    """Return the whole picture for `view`. Made anew at each change: a few dozen widgets, nothing stale stays."""
    band = Gtk.Box(css_classes=["band"], height_request=BAND_HEIGHT, accessible_role=Gtk.AccessibleRole.PRESENTATION)
    return box(
        band, _header(view, scale), _body(view, scale), _keys(view, scale), _footer(view),
        classes=(view.state.value,), orientation=Gtk.Orientation.VERTICAL,
    )  # fmt: skip


def _header(view: View, scale: float) -> Any:  # noqa: ANN401 - GtkWidget
    steps = []
    for index, name in enumerate(view.steps):
        place = "now" if index == view.step else "done" if index < view.step else "later"
        step = label(name, "step", place)
        step.set_hexpand(True)
        steps.append(step)
    return box(*steps, classes=("header",), spacing=round(16 * scale), homogeneous=True)


def _body(view: View, scale: float) -> Any:  # noqa: ANN401 - GtkWidget
    size = "long" if len(view.headline) > LONG_HEADLINE else "short"
    words = [
        label(view.status, "status", "accent", role=Gtk.AccessibleRole.STATUS),
        label(view.headline, "headline", size, role=Gtk.AccessibleRole.HEADING, wrap=True),
    ]
    if view.message:
        words.append(label(view.message, "message", wrap=True))
    if view.digits is not None:
        words.append(_pin(view))
    if view.rows:
        words.append(_list(view, scale))
    if view.code or view.tries:
        words.append(_facts(view, scale))
    column = box(
        *words, orientation=Gtk.Orientation.VERTICAL, spacing=round(18 * scale), valign=Gtk.Align.CENTER, hexpand=True
    )
    icon = Icon(ICONS[view.state], accent(view.state), round(ICON_SIZE * scale))
    icon.set_valign(Gtk.Align.CENTER)
    return box(icon, column, classes=("body",), spacing=round(64 * scale), vexpand=True)


def _pin(view: View) -> Any:  # noqa: ANN401 - GtkWidget
    field = Gtk.Label(
        label=DOT * (view.digits or 0), xalign=0.0, css_classes=["dots"], halign=Gtk.Align.START, focusable=True,
        accessible_role=Gtk.AccessibleRole.TEXT_BOX,
    )  # fmt: skip
    typed = t.digits_typed(view.digits or 0, view.language)
    field.update_property(
        [Gtk.AccessibleProperty.LABEL, Gtk.AccessibleProperty.DESCRIPTION], [view.headline, f"{typed}. {view.tries}"]
    )
    return field


def _list(view: View, scale: float) -> Any:  # noqa: ANN401 - GtkWidget
    widget = Gtk.Box(
        orientation=Gtk.Orientation.VERTICAL, spacing=round(8 * scale), accessible_role=Gtk.AccessibleRole.LIST_BOX
    )
    widget.update_property([Gtk.AccessibleProperty.LABEL], [view.headline])
    for row in view.rows:
        widget.append(_row(row, view, scale))
    return widget


def _row(row: Row, view: View, scale: float) -> Any:  # noqa: ANN401 - GtkWidget
    lines = [label(row.title, "title")] + ([label(_why(row), "note", wrap=True)] if row.note else [])
    column = box(*lines, orientation=Gtk.Orientation.VERTICAL, valign=Gtk.Align.CENTER)
    number = label(str(row.number) if row.number else "", "number")
    classes = ["row", "selected" if row.selected else "other", "open" if row.enabled else "closed"]
    widget = Gtk.Box(
        css_classes=classes,
        spacing=round(14 * scale),
        focusable=row.selected,
        accessible_role=Gtk.AccessibleRole.OPTION,
    )
    widget.append(number)
    widget.append(column)
    closed = "" if row.enabled else t.UNAVAILABLE.to(view.language)
    spoken = ", ".join(part for part in (str(row.number or ""), row.title, closed, row.note, row.code) if part)
    widget.update_property([Gtk.AccessibleProperty.LABEL], [spoken])
    widget.update_state([Gtk.AccessibleState.DISABLED], [not row.enabled])
    widget.update_state([Gtk.AccessibleState.SELECTED], [int(row.selected)])  # a tristate: GTK reads an int
    return widget


def _why(row: Row) -> str:
    return f"{row.note}  [{row.code}]" if row.code else row.note


def _facts(view: View, scale: float) -> Any:  # noqa: ANN401 - GtkWidget
    facts = []
    if view.code:
        facts.append(label(view.code, "code"))
        facts[0].update_property([Gtk.AccessibleProperty.LABEL], [f"{t.CODE.to(view.language)} {view.code}"])
    if view.tries:
        facts.append(label(view.tries, "tries"))
    return box(*facts, classes=("facts",), spacing=round(28 * scale))


def _keys(view: View, scale: float) -> Any:  # noqa: ANN401 - GtkWidget
    children = []
    for key, does in view.keys:
        children += [label(key, "keycap"), label(does, "does")]
    return box(*children, classes=("keys",), spacing=round(12 * scale))


def _footer(view: View) -> Any:  # noqa: ANN401 - GtkWidget
    left = label(view.box)
    left.set_hexpand(True)
    return box(left, label(view.language_key, "language"), classes=("footer",))


def focus_target(widget: Any) -> Any:  # noqa: ANN401 - GtkWidget
    """Return the first focusable widget below `widget`, or None: what a screen reader reads when it gets the focus."""
    child = widget.get_first_child()
    while child is not None:
        found = child if child.get_focusable() else focus_target(child)
        if found is not None:
            return found
        child = child.get_next_sibling()
    return None
