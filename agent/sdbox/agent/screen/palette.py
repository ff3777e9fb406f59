"""The screen's states and the colour of each one's band: plain data, read by the screen and by the system tests.

The band is the top BAND_HEIGHT pixels of the screen, full width, one solid colour, in every state. In `session` the
remote desktop covers it; in `picker` the picker's own window, band included, covers the desktop.
"""

from __future__ import annotations

from enum import StrEnum

BAND_HEIGHT = 40
TOLERANCE = 12  # what a pixel may differ per channel and still be the band: capture and codecs shift a little

Rgb = tuple[int, int, int]


class ScreenState(StrEnum):
    """The values of the D-Bus property State."""

    STARTING = "starting"
    NETWORK = "network"
    ATTESTING = "attesting"
    INSERT_CARD = "insert-card"
    READING_CARD = "reading-card"
    FINGER = "finger"
    PIN = "pin"
    LAST_TRY = "last-try"
    PICK = "pick"
    CONNECTING = "connecting"
    SESSION = "session"
    PICKER = "picker"
    CLOSING = "closing"
    REFUSED = "refused"


BANDS: dict[ScreenState, str] = {
    ScreenState.STARTING: "#5b6b7f",
    ScreenState.NETWORK: "#2f6fde",
    ScreenState.ATTESTING: "#7a4fe0",
    ScreenState.INSERT_CARD: "#f2b632",
    ScreenState.READING_CARD: "#e8852b",
    ScreenState.FINGER: "#19c3d1",
    ScreenState.PIN: "#e75aa8",
    ScreenState.LAST_TRY: "#ff8f8f",
    ScreenState.PICK: "#35b45f",
    ScreenState.CONNECTING: "#9fd65a",
    ScreenState.SESSION: "#0b6e3c",
    ScreenState.PICKER: "#c9a7ff",
    ScreenState.CLOSING: "#8c5a3c",
    ScreenState.REFUSED: "#e02f2f",
}

BACKGROUND = "#0e1420"
FOREGROUND = "#f5f7fb"
MUTED = "#a9b4c6"


def rgb(colour: str) -> Rgb:
    """Return the red, green and blue (0-255) of `#rrggbb`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def accent(state: ScreenState) -> str:
    """Return the band's colour, lightened so that text in it reads well on the background (WCAG 2.2, 1.4.3)."""
    mixed = ((3 * band + 2 * light) // 5 for band, light in zip(rgb(BANDS[state]), rgb(FOREGROUND), strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def state_of_pixel(pixel: Rgb) -> ScreenState | None:
    """Return the state whose band has this colour, within TOLERANCE on each channel; None for any other picture."""
    for state, colour in BANDS.items():
        if all(abs(seen - wanted) <= TOLERANCE for seen, wanted in zip(pixel, rgb(colour), strict=True)):
            return state
    return None
