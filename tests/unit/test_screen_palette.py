"""The bands that the system tests recognise states by."""

from __future__ import annotations

from itertools import combinations

import pytest

from sdbox.agent.screen.palette import BACKGROUND, BANDS, FOREGROUND, TOLERANCE, ScreenState, rgb, state_of_pixel


def _distance(one: str, other: str) -> int:
    return max(abs(a - b) for a, b in zip(rgb(one), rgb(other), strict=True))


def test_every_state_has_a_band() -> None:
    assert list(BANDS) == list(ScreenState)


@pytest.mark.parametrize(("one", "other"), combinations(ScreenState, 2))
def test_two_bands_cannot_be_taken_for_each_other(one: ScreenState, other: ScreenState) -> None:
    assert _distance(BANDS[one], BANDS[other]) > 40


@pytest.mark.parametrize("state", ScreenState)
def test_a_band_is_not_the_background_or_a_blank_screen(state: ScreenState) -> None:
    assert all(_distance(BANDS[state], colour) > 40 for colour in (BACKGROUND, FOREGROUND, "#000000", "#ffffff"))


@pytest.mark.parametrize("state", ScreenState)
def test_a_slightly_shifted_pixel_is_still_its_state(state: ScreenState) -> None:
    red, green, blue = rgb(BANDS[state])
    assert state_of_pixel((max(red - TOLERANCE, 0), green, min(blue + TOLERANCE, 255))) is state


def test_another_picture_is_no_state() -> None:
    assert state_of_pixel((0, 0, 0)) is None
    assert state_of_pixel((32, 80, 192)) is None
