"""Keyboard keys as the screen means them, independent of the layout.

On AZERTY the digits of the top row need Shift, and a keypad without Num Lock sends Home and End. Where the layout does
not give a digit or a key we know, the position of the key does.
"""

from __future__ import annotations

from enum import StrEnum


class Key(StrEnum):
    ENTER = "enter"
    ESCAPE = "escape"
    UP = "up"
    DOWN = "down"
    ERASE = "erase"
    LANGUAGE = "language"
    ZERO = "0"
    ONE = "1"
    TWO = "2"
    THREE = "3"
    FOUR = "4"
    FIVE = "5"
    SIX = "6"
    SEVEN = "7"
    EIGHT = "8"
    NINE = "9"


_NAMED = {
    "Return": Key.ENTER,
    "KP_Enter": Key.ENTER,
    "Escape": Key.ESCAPE,
    "Up": Key.UP,
    "Down": Key.DOWN,
    "BackSpace": Key.ERASE,
    "F2": Key.LANGUAGE,
} | {f"{prefix}{digit}": Key(digit) for prefix in ("", "KP_") for digit in "0123456789"}

# XKB key codes are the kernel's plus 8 (input-event-codes.h: KEY_1 = 2 ... KEY_0 = 11, KEY_KP7 = 71 ... KEY_KP0 = 82).
_TOP_ROW = {10 + index: Key(digit) for index, digit in enumerate("1234567890")}
_KEYPAD = dict(zip((79, 80, 81, 83, 84, 85, 87, 88, 89, 90), map(Key, "7894561230"), strict=True))
_PLACES = _TOP_ROW | _KEYPAD


def key_of(name: str | None, code: int) -> Key | None:
    """Return the key with this XKB symbol name, else the one at this XKB key code; None if neither is used."""
    return _NAMED.get(name or "") or _PLACES.get(code)
