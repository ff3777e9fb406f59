"""What the emulated USB CCID reader says of itself on endpoint 0: descriptors and requests."""

from __future__ import annotations

import struct
from typing import Final

# pcscd finds a driver by USB id, not by class: one that libccid lists (1.6, Info.plist, `ifdVendorID`).
# This one is of a contact reader, T=0 and T=1, no keys, for which libccid has no special case.
VENDOR, PRODUCT, DEVICE_VERSION = 0x04E6, 0x5810, 0x0100
STRINGS: Final = ("SD-Box", "Emulated card reader")

BULK_OUT, BULK_IN, INTERRUPT_IN = 0x01, 0x82, 0x83
PACKET: Final = 64  # full speed
NOTICE_PACKET: Final = 8
NOTICE_MILLISECONDS: Final = 32
CCID_CLASS: Final = 0x0B

MESSAGE_LIMIT: Final = 10 + 65546  # an extended command or answer in one message: nothing is ever chained
T0, T1 = 1, 2
# Automatic: ATR, activation, voltage, clock, rate, PPS, IFSD; short and extended APDU (CCID 1.1, table 5.1-1).
FEATURES: Final = 0x00040000 | 0x0400 | 0x80 | 0x3E
CLOCK_KHZ, BITS_PER_SECOND, IFSD = 4000, 10752, 254
ABORT: Final = (0x21, 0x01)  # class-specific request: bmRequestType, bRequest


def device_descriptor() -> bytes:
    """Return the device descriptor (USB 2.0, 9.6.1)."""
    return struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0, 0, 0, PACKET, VENDOR, PRODUCT, DEVICE_VERSION, 1, 2, 0, 1)


def class_descriptor() -> bytes:
    """Return the smart card device class descriptor (CCID 1.1, 5.1)."""
    head = struct.pack("<BBHBB", 54, 0x21, 0x0110, 0, 7)  # one slot; 5, 3 and 1.8 V
    speeds = struct.pack("<IIIBIIB", T0 | T1, CLOCK_KHZ, CLOCK_KHZ, 0, BITS_PER_SECOND, BITS_PER_SECOND, 0)
    rest = struct.pack("<IIIIIBBHBB", IFSD, 0, 0, FEATURES, MESSAGE_LIMIT, 0xFF, 0xFF, 0, 0, 1)
    return head + speeds + rest


def configuration_descriptor() -> bytes:
    """Return the only configuration with its interface and endpoints (USB 2.0, 9.6.3)."""
    interface = struct.pack("<9B", 9, 4, 0, 0, 3, CCID_CLASS, 0, 0, 0) + class_descriptor()
    ends = ((BULK_OUT, 2, PACKET, 0), (BULK_IN, 2, PACKET, 0), (INTERRUPT_IN, 3, NOTICE_PACKET, NOTICE_MILLISECONDS))
    for address, transfer, size, interval in ends:
        interface += struct.pack("<BBBBHB", 7, 5, address, transfer, size, interval)
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(interface), 1, 1, 0, 0x80, 50) + interface


def string_descriptor(index: int) -> bytes | None:
    """Return a string descriptor in English (USB 2.0, 9.6.7), None if there is none."""
    if index > len(STRINGS):
        return None
    text = STRINGS[index - 1].encode("utf-16-le") if index else b"\x09\x04"
    return bytes([2 + len(text), 3]) + text


def control(kind: int, request: int, value: int) -> bytes | None:
    """Answer a request on endpoint 0; None means stall (USB 2.0, 9.4)."""
    if (kind, request) == (0x80, 6):
        if value >> 8 == 3:  # a string
            return string_descriptor(value & 0xFF)
        return {1: device_descriptor, 2: configuration_descriptor}.get(value >> 8, lambda: None)()
    if request == 0 and kind in (0x80, 0x81, 0x82):  # GET_STATUS: bus powered, not halted
        return b"\x00\x00"
    if request in (1, 3) and kind in (0, 1, 2):  # CLEAR_FEATURE, SET_FEATURE: there is nothing to set
        return b""
    return b"" if (kind, request) == ABORT else None
