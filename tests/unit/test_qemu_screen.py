"""Screenshots and colours."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sdbox.qemu.deadline import Overdue
from sdbox.qemu.screen import band_colour, is_near, read_ppm, share_of, shows_band, shows_mostly, wait_pixels

BLUE, AMBER = (32, 80, 192), (242, 182, 50)


def banded() -> Image.Image:
    image = Image.new("RGB", (1280, 800), BLUE)
    image.paste(AMBER, (0, 0, 1280, 40))
    return image


def test_a_ppm_is_read_pixel_for_pixel(tmp_path: Path) -> None:
    banded().save(tmp_path / "a.ppm")
    assert read_ppm(tmp_path / "a.ppm").tobytes() == banded().tobytes()


def test_another_format_is_refused(tmp_path: Path) -> None:
    banded().convert("L").save(tmp_path / "a.pgm")
    with pytest.raises(ValueError, match="PPM"):
        read_ppm(tmp_path / "a.pgm")


def test_the_band_is_told_from_the_rest() -> None:
    assert band_colour(banded()) == AMBER
    assert shows_band(AMBER)(banded())
    assert not shows_band(BLUE)(banded())


def test_shares_count_near_colours_only() -> None:
    assert share_of(banded(), BLUE) == pytest.approx(0.95, abs=0.02)
    assert shows_mostly((31, 79, 191))(banded()), "RDP codecs shift colours by one or two"
    assert not shows_mostly((192, 96, 32))(banded())


@pytest.mark.parametrize(("other", "near"), [((40, 88, 184), True), ((41, 80, 192), False), ((32, 80, 201), False)])
def test_the_tolerance_holds_for_each_channel(other: tuple[int, int, int], near: bool) -> None:  # noqa: FBT001
    assert is_near(other, BLUE) is near


def test_a_wait_without_success_keeps_the_last_screen(tmp_path: Path) -> None:
    with pytest.raises(Overdue, match="the amber band"):
        wait_pixels(
            lambda: Image.new("RGB", (8, 8)), shows_band(AMBER), "the amber band", 0.05, keep=tmp_path / "k.png"
        )
    assert (tmp_path / "k.png").exists()


def test_a_wait_returns_the_screen_that_was_accepted() -> None:
    screens = iter([Image.new("RGB", (8, 8)), banded()])
    assert wait_pixels(lambda: next(screens), shows_band(AMBER), "the band", 5).size == (1280, 800)
