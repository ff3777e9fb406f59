"""Made-up fingers and what a sensor sees of them: no two captures alike, no person behind any.

A finger has minutiae that follow its ridges; a capture turns and shifts them, blurs places and angles, misses some and
sees some that are not there: as much as a touch sensor of 500 dpi does, so that a comparison has something to decide.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sdbox.smartcard.minutiae import COORDINATE, MAGIC, MINUTIA, RECORD, VERSION, VIEW

DOTS_PER_CM: Final = 197  # 500 dpi
DOTS_PER_MM: Final = 19.7
WIDTH, HEIGHT = 16.0, 18.0  # of the sensor, mm
MINUTIAE: Final = (42, 56)
APART: Final = 0.9  # mm, what ridges of 0.45 mm allow
TURN, SHIFT = math.radians(7), 0.9  # standard deviations of how a finger is put down
BLUR, ANGLE_BLUR = 0.13, math.radians(5)
MISSED, INVENTED = 0.12, (1, 5)
RIGHT_INDEX: Final = 2


@dataclass(frozen=True, slots=True)
class Mark:
    """One minutia: place in mm from the middle of the finger, direction, type (1 ending, 2 bifurcation)."""

    x: float
    y: float
    angle: float
    kind: int


def finger_named(name: str) -> tuple[Mark, ...]:
    """Return the finger called `name`: always the same one."""
    chance = random.Random(hashlib.sha256(f"sdbox-finger-{name}".encode()).digest())  # noqa: S311 - no secret
    bend, lean, start = chance.uniform(-0.09, 0.09), chance.uniform(-0.12, 0.12), chance.uniform(0, math.tau)
    marks: list[Mark] = []
    while len(marks) < chance.randint(*MINUTIAE):
        x, y = chance.uniform(-WIDTH / 2, WIDTH / 2), chance.uniform(-HEIGHT / 2, HEIGHT / 2)
        inside = (2 * x / WIDTH) ** 2 + (2 * y / HEIGHT) ** 2 < 1
        if inside and all(math.dist((x, y), (other.x, other.y)) >= APART for other in marks):
            along = start + bend * x * abs(x) / 4 + lean * y + chance.gauss(0, 0.15)
            marks.append(Mark(x, y, along + math.pi * chance.randint(0, 1), chance.randint(1, 2)))
    return tuple(marks)


def capture(finger: Sequence[Mark], chance: random.Random) -> bytearray:
    """Return an ISO/IEC 19794-2:2005 record of one touch."""
    turn = max(-2 * TURN, min(2 * TURN, chance.gauss(0, TURN)))
    right, down = chance.gauss(0, SHIFT), chance.gauss(0, SHIFT)
    seen = [mark for mark in finger if chance.random() > MISSED]
    seen += [_invented(chance) for _ in range(chance.randint(*INVENTED))]
    minutiae = []
    for mark in seen:
        x = mark.x * math.cos(turn) - mark.y * math.sin(turn) + right + chance.gauss(0, BLUR) + WIDTH / 2
        y = mark.x * math.sin(turn) + mark.y * math.cos(turn) + down + chance.gauss(0, BLUR) + HEIGHT / 2
        # The angle runs against the clock, y down (ISO/IEC 19794-2:2005, 6.3.3).
        angle = mark.angle - turn + chance.gauss(0, ANGLE_BLUR)
        if 0 <= x < WIDTH and 0 <= y < HEIGHT:
            minutiae.append(Mark(x, y, angle, mark.kind))
    chance.shuffle(minutiae)
    return _record(minutiae, chance)


def _invented(chance: random.Random) -> Mark:
    x, y = chance.uniform(-WIDTH / 2, WIDTH / 2), chance.uniform(-HEIGHT / 2, HEIGHT / 2)
    return Mark(x, y, chance.uniform(0, math.tau), chance.randint(1, 2))


def _record(minutiae: Sequence[Mark], chance: random.Random) -> bytearray:
    record = bytearray(RECORD.size)
    record += VIEW.pack(RIGHT_INDEX, 0, 80, len(minutiae))
    for mark in minutiae:
        x, y = (min(COORDINATE, int(value * DOTS_PER_MM)) for value in (mark.x, mark.y))
        record += MINUTIA.pack(mark.kind << 14 | x, y, round(mark.angle / math.tau * 256) % 256, chance.randint(40, 90))
    record += struct.pack(">H", 0)  # no extended data
    size = (round(WIDTH * DOTS_PER_MM), round(HEIGHT * DOTS_PER_MM))
    RECORD.pack_into(record, 0, MAGIC, VERSION, len(record), 0, *size, DOTS_PER_CM, DOTS_PER_CM, 1, 0)
    return record
