"""The bands that the system tests recognise states by."""

from __future__ import annotations

from itertools import combinations

import pytest

from sdbox.agent.screen.palette import (
    BACKGROUND,
    BANDS,
    FOREGROUND,
    MUTED,
    TOLERANCE,
    ScreenState,
    accent,
    rgb,
    state_of_pixel,
)


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


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [value / 255 for value in rgb(colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(colour: str) -> float:
    return (_luminance(colour) + 0.05) / (_luminance(BACKGROUND) + 0.05)


@pytest.mark.parametrize("state", ScreenState)
def test_text_in_the_states_colour_is_readable(state: ScreenState) -> None:
    assert _contrast(accent(state)) >= 4.5


def test_text_has_high_contrast() -> None:
    assert _contrast(FOREGROUND) >= 15
    assert _contrast(MUTED) >= 7
