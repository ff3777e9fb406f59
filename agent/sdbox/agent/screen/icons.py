"""One line drawing per state, as SVG path data on a 24 x 24 grid: no image loader, no icon theme needed."""

from __future__ import annotations

from sdbox.agent.screen.palette import ScreenState

GRID = 24
LINE = 1.3

_MONITOR = "M3 4 H21 V16 H3 Z M9 20 H15 M12 16 V20"
_CARD = "M2.5 5 H21.5 V19 H2.5 Z M5.5 9.5 H10 V14.5 H5.5 Z M5.5 12 H10"

ICONS: dict[ScreenState, str] = {
    ScreenState.STARTING: "M12 3 V12 M7.5 5.4 A8 8 0 1 0 16.5 5.4",
    ScreenState.NETWORK: (
        "M9 3 H15 V8 H9 Z M2.5 16 H8.5 V21 H2.5 Z M15.5 16 H21.5 V21 H15.5 Z M12 8 V12 M5.5 16 V12 H18.5 V16"
    ),
    ScreenState.ATTESTING: (
        "M12 2.5 L20 5.5 V11 C20 16 16.6 19.8 12 21.5 C7.4 19.8 4 16 4 11 V5.5 Z M8.3 12 L11 14.7 L15.8 9.3"
    ),
    ScreenState.INSERT_CARD: _CARD + " M13.5 9 L16.5 12 L13.5 15",
    ScreenState.READING_CARD: _CARD + " M13.5 12 H14 M15.8 12 H16.3 M18.1 12 H18.6",
    ScreenState.FINGER: (
        "M6 19 C7 16.5 7.3 14.3 7.3 12 A4.7 4.7 0 0 1 16.7 12 C16.7 15.2 16.2 18 15.2 20.7 "
        "M9.8 20.5 C11.3 17.6 12 14.8 12 12 M3.8 15.5 C4.2 14.2 4.3 13.2 4.3 12 A7.7 7.7 0 0 1 18.5 8 "
        "M19.7 11.5 C19.8 13.8 19.5 15.8 19 17.8"
    ),
    ScreenState.PIN: "M5 10.5 H19 V21 H5 Z M8 10.5 V7 A4 4 0 0 1 16 7 V10.5 M12 14.5 V17",
    ScreenState.LAST_TRY: _CARD + " M14.5 8 V12.5 M14.5 15 V15.8",
    ScreenState.PICK: "M4 6 H5 M9 6 H21 M4 12 H5 M9 12 H21 M4 18 H5 M9 18 H21",
    ScreenState.CONNECTING: _MONITOR + " M8 10 H15.5 M12.5 7 L15.5 10 L12.5 13",
    ScreenState.SESSION: _MONITOR + " M8.5 10 L11 12.5 L15.5 7.5",
    ScreenState.PICKER: "M4 8 H19 M15.5 4.5 L19 8 L15.5 11.5 M20 16 H5 M8.5 12.5 L5 16 L8.5 19.5",
    ScreenState.CLOSING: "M14 3.5 H4.5 V20.5 H14 M9.5 12 H20.5 M17 8.5 L20.5 12 L17 15.5",
    ScreenState.REFUSED: "M12 3 L22 20.5 H2 Z M12 9.5 V14.5 M12 17 V17.8",
}
