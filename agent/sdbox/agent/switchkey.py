"""The picker key, read from the keyboards themselves: it must work while the desktop has the keyboard.

The agent is no key logger: an evdev mask (EVIOCSMASK) makes the kernel hand it this one key and nothing else. The only
file that knows pyudev.
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
PRESSED: Final = 1
# The kernel takes whole longs only (bits_from_user in drivers/input/evdev.c).
TYPES_BYTES: Final = 8  # EV_CNT is 0x20
KEYS_BYTES: Final = 96  # KEY_CNT is 0x300


def bit_set(bits: tuple[int, ...], size: int) -> bytes:
    """Return `size` bytes with `bits` set, as the kernel counts them."""
    return sum(1 << bit for bit in bits).to_bytes(size, "little")


def mask_requests(code: int) -> tuple[tuple[int, bytes], ...]:
    """Return (event type, mask) pairs that let key `code` through and nothing else. Type 0 is the mask of types."""
    return ((EV_KEY, bit_set((code,), KEYS_BYTES)), (EV_SYN, bit_set((EV_SYN, EV_KEY), TYPES_BYTES)))


def set_masks(device: int, code: int) -> None:
    """Make the kernel filter `device`; OSError if it cannot, and the device must then not be read."""
    for kind, mask in mask_requests(code):
        buffer = ctypes.create_string_buffer(mask, len(mask))
        fcntl.ioctl(device, EVIOCSMASK, struct.pack("=IIQ", kind, len(mask), ctypes.addressof(buffer)))


def presses(data: bytes, code: int) -> int:
    """Return how often key `code` went down in `data`, a whole number of input events; repeats do not count."""
    whole = len(data) - len(data) % EVENT.size
    events = EVENT.iter_unpack(data[:whole])
    return sum((kind, key, value) == (EV_KEY, code, PRESSED) for _, _, kind, key, value in events)


class SwitchKeys:
    """Follows every keyboard, also those plugged in later, and calls `pressed` in the event loop."""

    def __init__(self, key: str, pressed: Callable[[], None]) -> None:
        self._code = SWITCH_KEYS[key]
        self._pressed = pressed
        self._devices: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        context = pyudev.Context()
        self._monitor = pyudev.Monitor.from_netlink(context)
        self._monitor.filter_by("input")
        self._monitor.start()
        self._loop.add_reader(self._monitor.fileno(), self._plugged)
        for device in context.list_devices(subsystem="input", ID_INPUT_KEYBOARD="1"):
            self._add(device.device_node)

    def close(self) -> None:
        """Stop reading."""
        self._loop.remove_reader(self._monitor.fileno())
        for node in tuple(self._devices):
            self._remove(node)

    def _plugged(self) -> None:
        while (device := self._monitor.poll(0)) is not None:
            if device.action == "remove":
                self._remove(device.device_node)
            elif device.get("ID_INPUT_KEYBOARD") == "1":
                self._add(device.device_node)

    def _add(self, node: str | None) -> None:
        if node is None or not node.startswith("/dev/input/event") or node in self._devices:
            return
        try:
            descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            journal.note(f"keyboard not opened: {errno.errorcode.get(error.errno or 0)}")
            return
        try:
            set_masks(descriptor, self._code)
            _discard(descriptor)
        except OSError as error:
            os.close(descriptor)
            journal.note(f"keyboard without filter not read: {errno.errorcode.get(error.errno or 0)}")
            return
        self._devices[node] = descriptor
        self._loop.add_reader(descriptor, self._readable, node)

    def _remove(self, node: str | None) -> None:
        descriptor = self._devices.pop(node or "", None)
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
        for _ in range(presses(data, self._code)):
            self._pressed()


def _discard(descriptor: int) -> None:
    """Throw away unread what came between open and the mask."""
    try:
        while os.read(descriptor, EVENT.size * 64):
            pass
    except BlockingIOError:
        return
