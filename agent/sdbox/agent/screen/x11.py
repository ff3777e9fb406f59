"""The few bytes of the X protocol that the keep-alive client speaks (X Window System Protocol, X11R7.7, appendix B)."""

from __future__ import annotations

import struct

HEADER = 8
REPLY = 32  # every event, every error, and the one reply we ask for
SETUP = struct.pack("<cxHHHHxx", b"l", 11, 0, 0, 0)  # little endian, version 11.0, no authorisation data
SYNC = struct.pack("<BxH", 43, 1)  # GetInputFocus: its answer says that all before it was handled
ERROR = 0
ANSWER = 1


def allow_user(user: str) -> bytes:
    """Return ChangeHosts (opcode 109): insert the server-interpreted address localuser:`user`."""
    address = b"localuser\0" + user.encode()
    padded = address + bytes(-len(address) % 4)
    return struct.pack("<BBHBxH", 109, 0, 2 + len(padded) // 4, 5, len(address)) + padded


def setup_length(header: bytes) -> int:
    """Return how many bytes follow the setup answer's first HEADER bytes; ConnectionError if the server said no."""
    accepted, words = struct.unpack("<B5xH", header)
    if accepted != 1:
        raise ConnectionError("the X server refused the keep-alive client")
    return int(words) * 4


def socket_path(display: str) -> str:
    """Return the socket of a local display such as ":0"; ValueError for any other."""
    host, _, number = display.partition(":")
    if host or not number.isdecimal():
        raise ValueError(f"not a local X display: {display!r}")
    return f"/tmp/.X11-unix/X{number}"  # noqa: S108 - the place the X protocol gives it
