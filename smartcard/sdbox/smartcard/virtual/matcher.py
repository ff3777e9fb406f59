"""Comparing two compact templates, as an emulated card does: small, and good enough to tell fingers apart honestly.

Every pair of minutiae votes for the turn and shift that would lay one on the other; the most voted are refined, and
the minutiae that then lie on each other are counted. tests/unit measures how well it does on made-up fingers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sdbox.smartcard.minutiae import CARD_ANGLES, Minutia, read_card_format

MOST_TURN: Final = 5  # 64ths of a turn: 28 degrees either way
CELL: Final = 8  # 0.1 mm, of a vote
CANDIDATES: Final = 6
NEAR, ALIKE = 6.5, 3  # 0.1 mm; 64ths of a turn
ROUNDS: Final = 2
THRESHOLD: Final = 0.25


@dataclass(frozen=True, slots=True)
class Move:
    """Turn by `turn` (radians, against the clock, y down) about the origin, then shift."""

    turn: float
    right: float
    down: float

    def of(self, x: float, y: float) -> tuple[float, float]:
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return x * cos + y * sin + self.right, y * cos - x * sin + self.down


def matches(reference: bytes | bytearray, candidate: bytes | bytearray) -> bool:
    """Whether both compact templates are of one finger."""
    return score(read_card_format(reference), read_card_format(candidate)) >= THRESHOLD


def score(reference: Sequence[Minutia], candidate: Sequence[Minutia]) -> float:
    """Return 0 (nothing alike) to 1: pairs that lie on each other, squared, against both numbers of minutiae."""
    if not reference or not candidate:
        return 0.0
    best = max((_pairs_after(reference, candidate, move) for move in _voted(reference, candidate)), default=0)
    return best * best / (len(reference) * len(candidate))


def _voted(reference: Sequence[Minutia], candidate: Sequence[Minutia]) -> list[Move]:
    votes: Counter[tuple[int, int, int]] = Counter()
    for one in reference:
        for other in candidate:
            turn = _between(one.angle, other.angle)
            if abs(turn) <= MOST_TURN:
                x, y = Move(_radians(turn), 0, 0).of(other.x, other.y)
                votes[turn, round((one.x - x) / CELL), round((one.y - y) / CELL)] += 1
    return [Move(_radians(turn), x * CELL, y * CELL) for (turn, x, y), _ in votes.most_common(CANDIDATES)]


def _pairs_after(reference: Sequence[Minutia], candidate: Sequence[Minutia], move: Move) -> int:
    reach = 2 * NEAR  # the first look is coarse: votes are
    for _ in range(ROUNDS):
        pairs = _pairs(reference, candidate, move, reach)
        if len(pairs) < 3:
            return 0
        move, reach = _best_move(pairs), NEAR
    return len(_pairs(reference, candidate, move, NEAR))


def _pairs(
    reference: Sequence[Minutia], candidate: Sequence[Minutia], move: Move, reach: float
) -> list[tuple[Minutia, Minutia]]:
    """Return the pairs that lie on each other, each minutia in one at most, the nearest first."""
    turn = round(move.turn / math.tau * CARD_ANGLES)
    close = []
    for number, other in enumerate(candidate):
        place = move.of(other.x, other.y)
        for index, one in enumerate(reference):
            apart = math.dist((one.x, one.y), place)
            if apart <= reach and abs(_between(one.angle, (other.angle + turn) % CARD_ANGLES)) <= ALIKE:
                close.append((apart, index, number))
    used_reference: set[int] = set()
    used_candidate: set[int] = set()
    pairs = []
    for _, index, number in sorted(close):
        if index not in used_reference and number not in used_candidate:
            used_reference.add(index)
            used_candidate.add(number)
            pairs.append((reference[index], candidate[number]))
    return pairs


def _best_move(pairs: Sequence[tuple[Minutia, Minutia]]) -> Move:
    """Return the move with the least squares of distances."""
    count = len(pairs)
    ax, ay = sum(one.x for one, _ in pairs) / count, sum(one.y for one, _ in pairs) / count
    bx, by = sum(other.x for _, other in pairs) / count, sum(other.y for _, other in pairs) / count
    dot = sum((one.x - ax) * (other.x - bx) + (one.y - ay) * (other.y - by) for one, other in pairs)
    cross = sum((one.x - ax) * (other.y - by) - (one.y - ay) * (other.x - bx) for one, other in pairs)
    turn = math.atan2(cross, dot)
    x, y = Move(turn, 0, 0).of(bx, by)
    return Move(turn, ax - x, ay - y)


def _between(one: int, other: int) -> int:
    """Return by how much `other` must turn to be `one`: -32 to 31."""
    return (one - other + CARD_ANGLES // 2) % CARD_ANGLES - CARD_ANGLES // 2


def _radians(turn: int) -> float:
    return turn * math.tau / CARD_ANGLES
