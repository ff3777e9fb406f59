"""What a PIV card's VERIFY compares with: the PIN (key reference 80) and fingers (96, 97), each with its own counter.

SP 800-73-5 part 1, table 4, and part 2, section 3.2.1.
"""

from __future__ import annotations

import random
import secrets
from typing import Final, Protocol

from sdbox.smartcard.minutiae import (
    Direction,
    Limits,
    Method,
    Order,
    TemplateError,
    card_template,
    read_card_format,
    sort,
)
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.matcher import matches
from sdbox.smartcard.virtual.tlv import tlv

PIN, PRIMARY_FINGER = 0x80, 0x96
PIN_SIZE: Final = 8
MAX_TRIES: Final = 3
FINGER_LIMITS: Final = Limits(12, 60, Order(Method.CARTESIAN_XY, Direction.ASCENDING))
PIN_POLICY, FINGER_POLICY = 0x40, 0x10  # usage policy of the discovery object: what opens the keys


def enrolled_template(finger: str) -> bytes:
    """Return what a card keeps of the first, careful capture of `finger` at its enrolment."""
    careful = random.Random(f"enrolment of {finger}")  # noqa: S311 - no secret
    return bytes(card_template(capture(finger_named(finger), careful), FINGER_LIMITS))


class Reference(Protocol):
    """One key reference. `data` is what VERIFY brings."""

    tries: int

    @property
    def is_set(self) -> bool: ...

    def takes(self, data: bytes) -> bool:
        """Whether `data` has the form of this reference; to another the card says 6A80, and no try is spent."""

    def compare(self, data: bytes) -> bool:
        """Whether `data` is the holder's."""


class PinReference:
    """Six to eight digits, filled up with FF."""

    is_set = True

    def __init__(self, pin: bytes) -> None:
        self.tries = MAX_TRIES
        self._pin = pin.ljust(PIN_SIZE, b"\xff")

    def takes(self, data: bytes) -> bool:
        return len(data) == PIN_SIZE

    def compare(self, data: bytes) -> bool:
        return secrets.compare_digest(data, self._pin)


class FingerReference:
    """A finger's template, compact minutiae; None before the first enrolment."""

    def __init__(self, template: bytes | None, limits: Limits = FINGER_LIMITS) -> None:
        self.tries = MAX_TRIES
        self.limits = limits
        self._template = template

    @property
    def is_set(self) -> bool:
        return self._template is not None

    def takes(self, data: bytes) -> bool:
        """Whole minutiae, as many and in the order that the BIT group says: a card relies on it."""
        try:
            minutiae = read_card_format(data)
        except TemplateError:
            return False
        in_order = sort(minutiae, self.limits.order) == minutiae
        return in_order and self.limits.minimum <= len(minutiae) <= self.limits.maximum

    def compare(self, data: bytes) -> bool:
        return self._template is not None and matches(self._template, data)

    def enrol(self, template: bytes) -> None:
        """Take another finger; the counter starts anew."""
        self._template, self.tries = template, MAX_TRIES

    def information(self, reference: int) -> bytes:
        """Return this finger's BIT (SP 800-76-2, section 5.5): see `sdbox.smartcard.bit`."""
        limits = self.limits
        order = bytes([limits.order.method | limits.order.direction])
        counts = bytes([limits.minimum, limits.maximum])
        parameters = tlv(0xB1, tlv(0x81, counts), tlv(0x82, order), tlv(0x83, b"\x00"))
        kind = (tlv(0x81, b"\x08"), tlv(0x82, b"\x05"), tlv(0x87, b"\x01\x01"), tlv(0x88, b"\x00\x05"))
        return tlv(0x7F60, tlv(0x83, bytes([reference])), tlv(0xA1, *kind, parameters))


def bit_group(fingers: dict[int, FingerReference]) -> bytes:
    """Return object 7F61: the enrolled fingers."""
    enrolled = [finger.information(reference) for reference, finger in fingers.items() if finger.is_set]
    return tlv(0x7F61, tlv(0x02, bytes([len(enrolled)])), *enrolled)
