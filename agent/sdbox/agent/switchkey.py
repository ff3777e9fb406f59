"""The picker key, and whether somebody is there, read from the input devices: both must work while a desktop has them.

The agent is no key logger: an evdev mask (EVIOCSMASK) makes the kernel hand it the picker key and keys that write
nothing (Enter, arrows, Shift...), of pointers that they moved. Letters, digits and the space bar never reach it. Who
types without any of those keys, and moves no pointer, for the whole idle limit counts as absent. The only file that
knows pyudev.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import Final

import pyudev

from sdbox.agent import journal
from sdbox.agent.config import SWITCH_KEYS

# linux/input.h: _IOW('E', 0x93, struct input_mask { __u32 type; __u32 codes_size; __u64 codes_ptr; })
EVIOCSMASK: Final = 1 << 30 | 16 << 16 | ord("E") << 8 | 0x93
EV_SYN: Final = 0x00
EV_KEY: Final = 0x01
EVENT: Final = struct.Struct("llHHi")  # struct input_event: seconds, microseconds, type, code, value
EV_REL: Final = 0x02
EV_ABS: Final = 0x03
PRESSED: Final = 1
# linux/input-event-codes.h: Tab, Enter, Ctrl, Shift, Alt, arrows, Page up and down, Home, End. None is part of a text.
SILENT_KEYS: Final = (15, 28, 29, 42, 54, 56, 96, 97, 100, 102, 103, 104, 105, 106, 107, 108, 109)
BUTTONS: Final = (*range(0x110, 0x118), 0x14A)  # BTN_MOUSE ..., BTN_TOUCH
POINTERS: Final = ("MOUSE", "POINTINGSTICK", "TOUCHPAD", "TOUCHSCREEN", "TABLET")
REST: Final = 5.0  # seconds that a pointer which moved is not read again: a mouse moves a thousand times a second
# The kernel takes whole longs only (bits_from_user in drivers/input/evdev.c).
TYPES_BYTES: Final = 8  # EV_CNT is 0x20
KEYS_BYTES: Final = 96  # KEY_CNT is 0x300


def bit_set(bits: tuple[int, ...], size: int) -> bytes:
    """Return `size` bytes with `bits` set, as the kernel counts them."""
    return sum(1 << bit for bit in bits).to_bytes(size, "little")


Masks = tuple[tuple[int, bytes], ...]


def mask_requests(code: int) -> Masks:
    """Return (event type, mask) pairs for keyboards: key `code` and the silent ones. Type 0 is the mask of types."""
    return ((EV_KEY, bit_set((code, *SILENT_KEYS), KEYS_BYTES)), (EV_SYN, bit_set((EV_SYN, EV_KEY), TYPES_BYTES)))


def pointer_masks() -> Masks:
    """Return the same for pointers: what moves, and buttons."""
    return ((EV_KEY, bit_set(BUTTONS, KEYS_BYTES)), (EV_SYN, bit_set((EV_SYN, EV_KEY, EV_REL, EV_ABS), TYPES_BYTES)))


def set_masks(device: int, masks: Masks) -> None:
    """Make the kernel filter `device`; OSError if it cannot, and the device must then not be read."""
    for kind, mask in masks:
        buffer = ctypes.create_string_buffer(mask, len(mask))
        fcntl.ioctl(device, EVIOCSMASK, struct.pack("=IIQ", kind, len(mask), ctypes.addressof(buffer)))


def presses(data: bytes, code: int) -> int:
    """Return how often key `code` went down in `data`, a whole number of input events; repeats do not count."""
    whole = len(data) - len(data) % EVENT.size
    events = EVENT.iter_unpack(data[:whole])
    return sum((kind, key, value) == (EV_KEY, code, PRESSED) for _, _, kind, key, value in events)


class SwitchKeys:
    """Follows keyboards and pointers, also those plugged in later; calls `pressed` and `used` in the event loop."""

    def __init__(self, key: str, pressed: Callable[[], None], used: Callable[[], None] = lambda: None) -> None:
        self._code = SWITCH_KEYS[key]
        self._pressed = pressed
        self._used = used
        self._devices: dict[str, int] = {}
        self._pointers: set[str] = set()
        self._loop = asyncio.get_running_loop()
        context = pyudev.Context()
        self._monitor = pyudev.Monitor.from_netlink(context)
        self._monitor.filter_by("input")
        self._monitor.start()
        self._loop.add_reader(self._monitor.fileno(), self._plugged)
        for device in context.list_devices(subsystem="input"):
            self._found(device)

    def close(self) -> None:
        """Stop reading."""
        self._loop.remove_reader(self._monitor.fileno())
        for node in tuple(self._devices):
            self._remove(node)

    def _plugged(self) -> None:
        while (device := self._monitor.poll(0)) is not None:
            if device.action == "remove":
                self._remove(device.device_node)
            else:
                self._found(device)

    def _found(self, device: pyudev.Device) -> None:
        if device.get("ID_INPUT_KEYBOARD") == "1":
            self._add(device.device_node, mask_requests(self._code))
        elif any(device.get(f"ID_INPUT_{kind}") == "1" for kind in POINTERS):
            self._add(device.device_node, pointer_masks())
            self._pointers.add(device.device_node or "")

    def _add(self, node: str | None, masks: Masks) -> None:
        if node is None or not node.startswith("/dev/input/event") or node in self._devices:
            return
        try:
            descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            journal.note(f"input device not opened: {errno.errorcode.get(error.errno or 0)}")
            return
        try:
            set_masks(descriptor, masks)
            _discard(descriptor)
        except OSError as error:
            os.close(descriptor)
            journal.note(f"input device without filter not read: {errno.errorcode.get(error.errno or 0)}")
            return
        self._devices[node] = descriptor
        self._loop.add_reader(descriptor, self._readable, node)

    def _remove(self, node: str | None) -> None:
        descriptor = self._devices.pop(node or "", None)
        self._pointers.discard(node or "")
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _readable(self, node: str) -> None:
        try:
            data = os.read(self._devices[node], EVENT.size * 64)
        except BlockingIOError:
            return
        except OSError:  # ENODEV: unplugged
            self._remove(node)
            return
        self._used()
        if node in self._pointers:
            self._loop.remove_reader(self._devices[node])
            self._loop.call_later(REST, self._read_again, node, self._devices[node])
            return
        for _ in range(presses(data, self._code)):
            self._pressed()

    def _read_again(self, node: str, descriptor: int) -> None:
        if self._devices.get(node) != descriptor:
            return
        try:
            _discard(descriptor)
        except OSError:  # ENODEV: unplugged
            self._remove(node)
        else:
            self._loop.add_reader(descriptor, self._readable, node)


def _discard(descriptor: int) -> None:
    """Throw away unread what came between open and the mask."""
    try:
        while os.read(descriptor, EVENT.size * 64):
            pass
    except BlockingIOError:
        return
