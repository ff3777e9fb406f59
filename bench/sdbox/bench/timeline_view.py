"""The timeline as a table for the terminal and as an SVG to look at."""

from __future__ import annotations

from html import escape

from rich.table import Table

from sdbox.bench.timeline import Timeline

ROW, LEFT, WIDTH, TOP = 22, 190, 760, 58
COLOURS = {"bench": "#5b6b8c", "box": "#2a7f62", "screen": "#b5651d"}


def table(timeline: Timeline) -> Table:
    """Return the table: moment, seconds since power-on, seconds since the line above."""
    shown = Table("moment", "seen by", title="From power-on to the wiped screen", title_justify="left")
    shown.add_column("s since power-on", justify="right")
    shown.add_column("step, s", justify="right")
    before = 0.0
    for mark in timeline.ordered():
        shown.add_row(mark.name, mark.source, f"{mark.seconds:.2f}", f"{mark.seconds - before:.2f}")
        before = mark.seconds
    return shown


def svg(timeline: Timeline) -> str:
    """Return a standalone SVG: one row a mark, its bar from the mark before."""
    marks = timeline.ordered()
    total = max((mark.seconds for mark in marks), default=0.0) or 1.0
    scale = WIDTH / total
    height = TOP + ROW * len(marks) + 16
    box = f"0 0 {LEFT + WIDTH + 90} {height}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="13">',
        f'<rect width="100%" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="17" fill="#1c2430">From power-on to the wiped screen: {total:.1f} s</text>',
        *_legend(),
    ]
    before = 0.0
    for row, mark in enumerate(marks):
        y = TOP + row * ROW
        x, width = LEFT + before * scale, max(1.5, (mark.seconds - before) * scale)
        colour = COLOURS.get(mark.source, "#888888")
        parts.append(f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end" fill="#1c2430">{escape(mark.name)}</text>')
        parts.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 8}" rx="2" fill="{colour}"/>')
        label = f"{mark.seconds - before:.2f} s"
        parts.append(f'<text x="{x + width + 6:.1f}" y="{y + 14}" font-size="11" fill="#5a6472">{label}</text>')
        before = mark.seconds
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts = []
    for index, (source, colour) in enumerate(COLOURS.items()):
        x = 12 + index * 110
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="45" font-size="12" fill="#5a6472">seen by {source}</text>')
    return parts
