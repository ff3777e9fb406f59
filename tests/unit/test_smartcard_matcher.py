"""The emulated card's comparison decides by minutiae: how often it is wrong, and that nothing else decides."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from sdbox.smartcard.minutiae import Minutia, card_template, read_card_format, sort, write_card_format
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.matcher import THRESHOLD, matches, score
from sdbox.smartcard.virtual.piv_references import FINGER_LIMITS, enrolled_template

FINGERS = [f"finger {number}" for number in range(16)]


def touch(name: str, chance: random.Random) -> bytearray:
    return card_template(capture(finger_named(name), chance), FINGER_LIMITS)


def test_fingers_are_told_apart_with_room_to_spare() -> None:
    """16 fingers, 5 touches each, against each reference: no false match and no false non-match, and no close call."""
    chance = random.Random(2005)
    references = {name: read_card_format(enrolled_template(name)) for name in FINGERS}
    same = [score(references[name], read_card_format(touch(name, chance))) for name in FINGERS for _ in range(5)]
    touches = {name: read_card_format(touch(name, chance)) for name in FINGERS}
    other = [score(references[one], touches[two]) for one in FINGERS for two in FINGERS if one != two]
    assert min(same) > THRESHOLD + 0.05
    assert max(other) < THRESHOLD - 0.1


def test_a_turned_and_shifted_finger_is_the_same_finger() -> None:
    reference = read_card_format(enrolled_template("good"))
    moved = [Minutia(each.x + 20, each.y - 5, each.kind, each.angle, 0) for each in reference if each.y >= 5]
    assert score(reference, moved) > 0.9
    quarter = [Minutia(each.y, 255 - each.x, each.kind, (each.angle + 16) % 64, 0) for each in reference]
    assert score(reference, quarter) < THRESHOLD, "no sensor is used across"


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_a_few_of_the_right_minutiae_among_others_are_not_enough(share: float) -> None:
    reference = read_card_format(enrolled_template("good"))
    part = reference[: int(share * len(reference))]
    stranger = [each for each in read_card_format(enrolled_template("wrong")) if each not in part]
    mixed = sort([*part, *stranger][: len(reference)], FINGER_LIMITS.order)
    assert not matches(write_card_format(reference), write_card_format(mixed))


def test_guessing_does_not_match() -> None:
    chance = random.Random(7)
    reference = enrolled_template("good")
    for _ in range(40):
        guess = [Minutia(chance.randrange(160), chance.randrange(180), 1, chance.randrange(64), 0) for _ in range(60)]
        assert not matches(reference, write_card_format(sort(guess, FINGER_LIMITS.order)))


def test_nothing_is_not_alike() -> None:
    reference = read_card_format(enrolled_template("good"))
    assert score(reference, []) == score([], reference) == 0


def test_a_made_up_finger_has_what_a_finger_has() -> None:
    for name in FINGERS:
        marks = finger_named(name)
        assert 42 <= len(marks) <= 56
        assert len(card_template(capture(marks, random.Random(1)), FINGER_LIMITS)) // 3 > 25
    assert all(one != two for one, two in pairwise(finger_named(name) for name in FINGERS))
