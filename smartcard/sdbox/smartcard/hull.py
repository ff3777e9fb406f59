"""Peeling points off their convex hull: how a template is cut to what a card takes (ISO/IEC 19794-2:2005, 8.3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[int, int]


def peel(points: Sequence[Point], most: int) -> list[int]:
    """Return the indices, in their order, of the `most` points that are left when hull after hull is taken off.

    Of a hull that need not go as a whole, the points farthest from the centre of mass go first.
    """
    left = list(range(len(points)))
    while len(left) > most:
        outer = _hull(points, left)
        middle = (sum(points[i][0] for i in left) / len(left), sum(points[i][1] for i in left) / len(left))
        farthest = sorted(outer, key=lambda index: (-math.dist(points[index], middle), index))
        gone = set(farthest[: len(left) - most])
        left = [index for index in left if index not in gone]
    return left


def _hull(points: Sequence[Point], indices: Sequence[int]) -> set[int]:
    """Return the corners of the convex hull (Andrew's monotone chain)."""
    ordered = sorted(indices, key=lambda index: points[index])
    return {*_chain(points, ordered), *_chain(points, ordered[::-1])}


def _chain(points: Sequence[Point], ordered: Sequence[int]) -> list[int]:
    chain: list[int] = []
    for index in ordered:
        while len(chain) > 1 and _turn(points[chain[-2]], points[chain[-1]], points[index]) <= 0:
            chain.pop()
        chain.append(index)
    return chain


def _turn(first: Point, second: Point, third: Point) -> int:
    """Return more than 0 for a turn to one side, less for the other, 0 for a straight line."""
    ahead = (second[0] - first[0], second[1] - first[1])
    return ahead[0] * (third[1] - first[1]) - ahead[1] * (third[0] - first[0])
