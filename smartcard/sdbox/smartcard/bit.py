"""The card's biometric information templates: which fingers it knows, and how many minutiae it takes of each.

Object 7F61 (SP 800-76-2, section 5.5; SP 800-73-5 part 1; tags of ISO/IEC 19785-3 and ISO/IEC 19794-2, clause 8.3):
    7F61 { 02 number of fingers, 7F60 { 83 key reference, A1 { 81 type, 82 finger, 87 owner, 88 format,
           B1 { 81 fewest and most minutiae, 82 order, 83 features } } } ... }
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sdbox.smartcard.minutiae import Limits, Order
from sdbox.smartcard.tlv import parse_tlvs

BIT_GROUP, BIT = 0x7F61, 0x7F60
NUMBER, REFERENCE, HEADER, PARAMETERS = 0x02, 0x83, 0xA1, 0xB1
TYPE, OWNER, FORMAT = 0x81, 0x87, 0x88
COUNTS, ORDER = 0x81, 0x82
FINGERPRINT: Final = 0x08
SC37: Final = 0x0101  # ISO/IEC JTC 1/SC 37
COMPACT_MINUTIAE: Final = 0x0005  # ISO/IEC 19794-2 finger minutiae, card compact
REFERENCES: Final = (0x96, 0x97)  # SP 800-73-5 part 1, table 4: primary and secondary finger


class BitError(Exception):
    """The card's BIT group is malformed, or of a format we do not make."""


@dataclass(frozen=True, slots=True)
class EnrolledFinger:
    """A finger the card compares with: the key reference of its VERIFY, and what it takes."""

    reference: int
    limits: Limits


def parse_bit_group(data: bytes) -> tuple[EnrolledFinger, ...]:
    """Return the fingers of a BIT group in the card's order, none if none is enrolled; BitError."""
    try:
        ((tag, group),) = parse_tlvs(data)
        objects = list(parse_tlvs(group))
        number = int.from_bytes(dict(objects)[NUMBER], "big")
        templates = [value for tag, value in objects if tag == BIT][:number]
        fingers = tuple(_finger(index, value) for index, value in enumerate(templates))
    except (ValueError, KeyError, IndexError) as error:
        raise BitError("malformed BIT group") from error
    if tag != BIT_GROUP or len(fingers) != number or len({each.reference for each in fingers}) != number:
        raise BitError("BIT group does not add up")
    return fingers


def _finger(index: int, template: bytes) -> EnrolledFinger:
    objects = dict(parse_tlvs(template))
    header = dict(parse_tlvs(objects[HEADER]))
    # Cards have the parameters inside the header or beside it: both are seen.
    parameters = dict(parse_tlvs(header[PARAMETERS] if PARAMETERS in header else objects[PARAMETERS]))
    kinds = [int.from_bytes(header.get(tag, b""), "big") for tag in (TYPE, OWNER, FORMAT)]
    if kinds != [FINGERPRINT, SC37, COMPACT_MINUTIAE]:
        raise BitError("the card does not compare compact minutiae")
    reference = int.from_bytes(objects.get(REFERENCE, bytes([REFERENCES[index]])), "big")
    if reference not in REFERENCES:
        raise BitError("unknown key reference of a finger")
    return EnrolledFinger(reference, _limits(parameters))


def _limits(parameters: dict[int, bytes]) -> Limits:
    (fewest, most) = parameters[COUNTS]
    order = Order.parse(int.from_bytes(parameters.get(ORDER, b"\x00"), "big"))
    if not 0 < fewest <= most:
        raise ValueError("limits of minutiae")
    return Limits(fewest, most, order)
