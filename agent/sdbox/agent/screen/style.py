"""The screen's style sheet, made from the palette and scaled to the height of the screen."""

from __future__ import annotations

from collections.abc import Callable

from sdbox.agent.screen.palette import BACKGROUND, BAND_HEIGHT, BANDS, FOREGROUND, MUTED, accent

DESIGN_HEIGHT = 800
SURFACE = "#1a2333"
LINE = "#33415a"


def style_sheet(screen_height: int) -> str:
    """Return CSS for a screen of this height in pixels: sizes grow with it, the band does not."""
    scale = max(0.7, screen_height / DESIGN_HEIGHT)

    def px(size: float) -> str:
        return f"{round(size * scale)}px"

    return _page(px) + _controls(px) + _bands()


def _page(px: Callable[[float], str]) -> str:
    return f"""
* {{ font-family: "B612"; }}
window {{ background: {BACKGROUND}; color: {FOREGROUND}; font-size: {px(24)}; }}
.band {{ min-height: {BAND_HEIGHT}px; }}
.header {{ padding: {px(24)} {px(80)} 0 {px(80)}; }}
.step {{ color: {MUTED}; font-size: {px(19)}; padding: 0 0 {px(8)} 0; border-bottom: {px(3)} solid {LINE}; }}
.step.done {{ color: {FOREGROUND}; border-color: {MUTED}; }}
.step.now {{ color: {FOREGROUND}; font-weight: bold; }}
.body {{ padding: 0 {px(80)}; }}
.status {{ font-size: {px(22)}; font-weight: bold; }}
.headline {{ font-size: {px(52)}; font-weight: bold; }}
.headline.long {{ font-size: {px(40)}; }}
.message {{ font-size: {px(27)}; color: {FOREGROUND}; }}
.facts {{ font-size: {px(24)}; }}
.code {{ font-family: "B612 Mono"; font-size: {px(24)}; background: {SURFACE};
  border-radius: {px(8)}; padding: {px(8)} {px(18)}; }}
.tries {{ font-weight: bold; padding: {px(8)} 0; }}
"""


def _controls(px: Callable[[float], str]) -> str:
    return f"""
.dots {{ background: {SURFACE}; border-radius: {px(12)}; border: {px(3)} solid {LINE}; padding: {px(14)} {px(26)};
  font-size: {px(44)}; min-height: {px(52)}; min-width: {px(460)}; letter-spacing: {px(10)}; }}
.row {{ background: {SURFACE}; border-radius: {px(12)}; border: {px(3)} solid transparent; padding: {px(9)} {px(22)}; }}
.row .number {{ font-weight: bold; font-size: {px(30)}; min-width: {px(34)}; }}
.row .title {{ font-size: {px(27)}; }}
.row .note {{ font-size: {px(20)}; color: {MUTED}; }}
.row.closed {{ background: transparent; }}
.row.closed .number, .row.closed .title {{ color: {MUTED}; font-weight: normal; }}
.keys {{ padding: 0 {px(80)} {px(22)} {px(80)}; }}
.keycap {{ font-size: {px(18)}; font-weight: bold; border: {px(2)} solid {MUTED};
  border-radius: {px(7)}; padding: {px(3)} {px(11)}; }}
.does {{ font-size: {px(20)}; color: {FOREGROUND}; margin-right: {px(26)}; }}
.footer {{ border-top: {px(2)} solid {LINE}; padding: {px(14)} {px(80)}; font-size: {px(19)}; color: {MUTED}; }}
.language {{ color: {FOREGROUND}; font-weight: bold; }}
"""


def _bands() -> str:
    return "\n".join(
        f".{state} .band {{ background: {colour}; }} .{state} .accent {{ color: {accent(state)}; }}"
        f" .{state} .step.now {{ border-color: {colour}; }} .{state} .row.selected {{ border-color: {colour}; }}"
        for state, colour in BANDS.items()
    )
