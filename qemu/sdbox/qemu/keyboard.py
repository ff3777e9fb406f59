"""Text to key strokes, in QEMU's key names, for a US keyboard."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase, digits

PLAIN = {
    " ": "spc", "\n": "ret", "\t": "tab", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right",
    ";": "semicolon", "'": "apostrophe", "`": "grave_accent", "\\": "backslash", ",": "comma", ".": "dot", "/": "slash",
}  # fmt: skip
SHIFTED = {
    "!": "1", "@": "2", "#": "3", "$": "4", "%": "5", "^": "6", "&": "7", "*": "8", "(": "9", ")": "0", "_": "minus",
    "+": "equal", "{": "bracket_left", "}": "bracket_right", ":": "semicolon", '"': "apostrophe", "~": "grave_accent",
    "|": "backslash", "<": "comma", ">": "dot", "?": "slash",
}  # fmt: skip
NAMED = (
    "ret", "esc", "tab", "spc", "backspace", "delete", "insert", "home", "end", "pgup", "pgdn", "up", "down", "left",
    "right", "pause", "print", "scroll_lock", "caps_lock", "menu", "shift", "ctrl", "alt", "alt_r", "meta_l",
    *(f"f{number}" for number in range(1, 13)),
)  # fmt: skip
KEYS = tuple(dict.fromkeys((*NAMED, *ascii_lowercase, *digits, *PLAIN.values())))  # what a person may press, by name


def strokes(text: str) -> list[tuple[str, ...]]:
    """Return the keys to press together for each character; ValueError for one the keyboard does not have."""
    return [_stroke(character) for character in text]


def _stroke(character: str) -> tuple[str, ...]:
    if character in ascii_lowercase or character in digits:
        return (character,)
    if character in ascii_uppercase:
        return ("shift", character.lower())
    if character in PLAIN:
        return (PLAIN[character],)
    if character in SHIFTED:
        return ("shift", SHIFTED[character])
    raise ValueError("no key for this character on a US keyboard")  # the text may be a PIN: it is not repeated here
