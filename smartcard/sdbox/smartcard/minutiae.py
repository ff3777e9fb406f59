"""Fingerprint minutiae: from a sensor's record to what a card compares.

In: an ISO/IEC 19794-2:2005 finger minutiae record (clause 7: "FMR", 24-byte header, 4-byte view header, 6 bytes per
minutia). Out: the compact card format (clause 8.1; the only one SP 800-76-2 allows for on-card comparison): 3 bytes
per minutia, x and y in 0.1 mm, type in two bits, angle in 64ths of a turn.

A template is personal for life. It stands in bytearrays only, which whoever made them wipes (S8); what lies between,
integers and lists of them, is freed at once and belongs to a process that leaves no core file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from sdbox.smartcard.hull import peel

RECORD: Final = struct.Struct(">4s4sIHHHHHBB")  # magic, version, length, device, size x y, resolution x y, views, 0
VIEW: Final = struct.Struct(">BBBB")  # finger position, view and impression, quality, number of minutiae
MINUTIA: Final = struct.Struct(">HHBB")  # type and x, y, angle in 256ths of a turn, quality
MAGIC, VERSION = b"FMR\0", b" 20\0"
COORDINATE: Final = 0x3FFF
CARD_SIZE: Final = 3
CARD_RANGE: Final = 0xFF  # 25.5 mm
TENTHS_PER_CM: Final = 100
ANGLES, CARD_ANGLES = 256, 64
POOR_QUALITY: Final = 25  # of 100; 0 means that the sensor does not say


class TemplateError(Exception):
    """A record is malformed, or has too few minutiae for the card. The message says what, never the minutiae."""


class Direction(IntEnum):
    """Bits 1 and 2 of the order byte."""

    NONE = 0
    ASCENDING = 1
    DESCENDING = 2


class Method(IntEnum):
    """Bits 3 to 5 of the order byte."""

    NONE = 0x00
    CARTESIAN_XY = 0x04
    CARTESIAN_YX = 0x08
    ANGLE = 0x0C
    POLAR = 0x10  # distance from the centre of mass


@dataclass(frozen=True, slots=True)
class Order:
    """How a card wants its minutiae sorted (ISO/IEC 19794-2:2005, clause 8.3.3; SP 800-76-2 asks for one)."""

    method: Method = Method.NONE
    direction: Direction = Direction.NONE

    @classmethod
    def parse(cls, value: int) -> Order:
        """Read the order byte; ValueError for a combination that the standard does not have."""
        order = cls(Method(value & 0x1C), Direction(value & 0x03))
        if value & ~0x1F or (order.method is Method.NONE) is not (order.direction is Direction.NONE):
            raise ValueError("minutiae order unknown")
        return order


@dataclass(frozen=True, slots=True)
class Limits:
    """How many minutiae a card takes for one finger, and in which order."""

    minimum: int
    maximum: int
    order: Order = Order()


class Minutia(NamedTuple):
    """One minutia in the card's units. `kind`: 1 ridge ending, 2 bifurcation, 0 other."""

    x: int
    y: int
    kind: int
    angle: int
    quality: int


def card_template(record: bytes | bytearray, limits: Limits) -> bytearray:
    """Return the one finger of `record` in the compact card format, pruned and sorted as the card asks.

    TemplateError if the record is malformed or has too few minutiae. The caller wipes `record` and the result.
    """
    minutiae = _distinct(_on_the_card(_read(record)))
    if len(minutiae) < limits.minimum:
        raise TemplateError(f"{len(minutiae)} minutiae, the card needs {limits.minimum}")
    return write_card_format(sort(prune(minutiae, limits), limits.order))


def write_card_format(minutiae: Sequence[Minutia]) -> bytearray:
    """Return 3 bytes per minutia: x, y, type and angle."""
    template = bytearray(CARD_SIZE * len(minutiae))
    for index, each in enumerate(minutiae):
        start = CARD_SIZE * index
        template[start : start + CARD_SIZE] = (each.x, each.y, each.kind << 6 | each.angle)
    return template


def read_card_format(template: bytes | bytearray) -> list[Minutia]:
    """Return the minutiae of a compact template; TemplateError if its length is no multiple of 3."""
    if len(template) % CARD_SIZE:
        raise TemplateError("a compact template has 3 bytes per minutia")
    triples = zip(*[iter(template)] * CARD_SIZE, strict=True)
    return [Minutia(x, y, last >> 6, last & 0x3F, 0) for x, y, last in triples]


def _read(record: bytes | bytearray) -> list[Minutia]:
    """Return the minutiae of the one view of `record`, in 0.1 mm and 64ths, not yet moved into the card's square."""
    if len(record) < RECORD.size + VIEW.size + 2:
        raise TemplateError("record cut short")
    magic, version, length, _, _, _, dots_x, dots_y, views, _ = RECORD.unpack_from(record)
    if (magic, version) != (MAGIC, VERSION) or length != len(record):
        raise TemplateError("not an ISO/IEC 19794-2:2005 record")
    if views != 1 or not dots_x or not dots_y:
        raise TemplateError("one finger view and its resolution are needed")
    *_, count = VIEW.unpack_from(record, RECORD.size)
    start = RECORD.size + VIEW.size
    end = start + count * MINUTIA.size
    if len(record) < end + 2 or end + 2 + int.from_bytes(record[end : end + 2], "big") != length:
        raise TemplateError("lengths of the record do not add up")
    found = []
    for offset in range(start, end, MINUTIA.size):
        first, second, angle, quality = MINUTIA.unpack_from(record, offset)
        x, y = _tenths(first & COORDINATE, dots_x), _tenths(second & COORDINATE, dots_y)
        kind = first >> 14 if first >> 14 in (1, 2) else 0
        found.append(Minutia(x, y, kind, _card_angle(angle), quality))
    return found


def _tenths(dots: int, dots_per_cm: int) -> int:
    """Return a coordinate in 0.1 mm, rounded half up."""
    return (2 * TENTHS_PER_CM * dots + dots_per_cm) // (2 * dots_per_cm)


def _card_angle(angle: int) -> int:
    """Return an angle in 64ths of a turn, rounded half up; what rounds to a whole turn is none."""
    step = ANGLES // CARD_ANGLES
    return (angle + step // 2) // step % CARD_ANGLES


def _on_the_card(minutiae: Sequence[Minutia]) -> list[Minutia]:
    """Move a finger that reaches beyond the card's 25.5 mm into its square, and leave out what still is outside."""
    if not minutiae:
        return []
    left, top = _shift([each.x for each in minutiae]), _shift([each.y for each in minutiae])
    moved = (each._replace(x=each.x - left, y=each.y - top) for each in minutiae)
    return [each for each in moved if 0 <= each.x <= CARD_RANGE and 0 <= each.y <= CARD_RANGE]


def _shift(values: Sequence[int]) -> int:
    low, high = min(values), max(values)
    if high <= CARD_RANGE:
        return 0
    return low if high - low <= CARD_RANGE else (low + high - CARD_RANGE) // 2


def _distinct(minutiae: Sequence[Minutia]) -> list[Minutia]:
    """Leave out what fell on the same place with the same angle when it was rounded: the better one stays."""
    best: dict[tuple[int, int, int], Minutia] = {}
    for each in minutiae:
        place = (each.x, each.y, each.angle)
        if place not in best or best[place].quality < each.quality:
            best[place] = each
    return list(best.values())


def prune(minutiae: Sequence[Minutia], limits: Limits) -> list[Minutia]:
    """Keep at most the card's maximum: first the poor ones go, then the outermost (ISO/IEC 19794-2:2005, 8.3.2)."""
    kept = list(minutiae)
    poor = sorted((each for each in kept if 0 < each.quality < POOR_QUALITY), key=lambda each: each.quality)
    for each in poor[: max(0, len(kept) - limits.maximum)]:
        kept.remove(each)
    points = [(each.x, each.y) for each in kept]
    return [kept[index] for index in peel(points, limits.maximum)]


def sort(minutiae: Sequence[Minutia], order: Order) -> list[Minutia]:
    """Return the minutiae in the card's order; equal ones by x, y and angle, so that the result is always the same."""
    if order.method is Method.NONE or not minutiae:
        return list(minutiae)
    key = _keys(minutiae)[order.method]
    return sorted(minutiae, key=key, reverse=order.direction is Direction.DESCENDING)


def _keys(minutiae: Sequence[Minutia]) -> dict[Method, Callable[[Minutia], tuple[float, ...]]]:
    count = len(minutiae)
    middle = (sum(each.x for each in minutiae) / count, sum(each.y for each in minutiae) / count)
    return {
        Method.CARTESIAN_XY: lambda each: (each.x, each.y, each.angle),
        Method.CARTESIAN_YX: lambda each: (each.y, each.x, each.angle),
        Method.ANGLE: lambda each: (each.angle, each.x, each.y),
        Method.POLAR: lambda each: (math.dist((each.x, each.y), middle), each.x, each.y, each.angle),
    }
