"""Looking at a screen: colours with a tolerance, because RDP codecs shift them a little."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from sdbox.qemu.deadline import Overdue

Colour = tuple[int, int, int]
TOLERANCE = 8
LOOK_SECONDS = 0.05  # between two screenshots: QEMU takes one with the guest stopped, 200 a second double a boot's time


def read_ppm(path: Path) -> Image.Image:
    """Return a binary PPM (P6, maxval 255) the quick way: screens are polled 20 times a second."""
    with path.open("rb") as file:
        if file.readline() != b"P6\n":
            raise ValueError(f"{path} is not a binary PPM")
        width, height = map(int, file.readline().split())
        file.readline()
        return Image.frombytes("RGB", (width, height), file.read(width * height * 3))


def is_near(seen: Colour, wanted: Colour, tolerance: int = TOLERANCE) -> bool:
    """Whether each channel differs by at most `tolerance`."""
    return all(abs(one - other) <= tolerance for one, other in zip(seen, wanted, strict=True))


def share_of(image: Image.Image, wanted: Colour, tolerance: int = TOLERANCE) -> float:
    """Return the share (0 to 1) of pixels near `wanted`, by a grid of at most 64 x 64 samples."""
    width, height = image.size
    xs, ys = range(0, width, max(1, width // 64)), range(0, height, max(1, height // 64))
    near = sum(is_near(pixel(image, x, y), wanted, tolerance) for x in xs for y in ys)
    return near / (len(xs) * len(ys))


def band_colour(image: Image.Image, height: int = 24) -> Colour:
    """Return the commonest colour of the screen's top `height` rows."""
    colours = image.crop((0, 0, image.width, min(height, image.height))).getcolors(image.width * height) or []
    _, commonest = max(colours, key=lambda entry: entry[0])
    return _colour(commonest)


def pixel(image: Image.Image, x: int, y: int) -> Colour:
    """Return one pixel of an RGB image."""
    return _colour(image.getpixel((x, y)))


def shows_band(colour: Colour, tolerance: int = TOLERANCE) -> Callable[[Image.Image], bool]:
    """Return the predicate: the top band has this colour."""
    return lambda image: is_near(band_colour(image), colour, tolerance)


def shows_mostly(colour: Colour, share: float = 0.5, tolerance: int = TOLERANCE) -> Callable[[Image.Image], bool]:
    """Return the predicate: at least `share` of the screen has this colour."""
    return lambda image: share_of(image, colour, tolerance) >= share


def wait_pixels(
    screenshot: Callable[[], Image.Image],
    predicate: Callable[[Image.Image], bool],
    what: str,
    seconds: float,
    *,
    keep: Path | None = None,
) -> Image.Image:
    """Return the first screenshot `predicate` accepts; Overdue after `seconds`, the last one saved as `keep`."""
    end = time.monotonic() + seconds
    while True:
        last_try = time.monotonic() >= end
        image = screenshot()
        if predicate(image):
            return image
        if last_try:
            if keep is not None:
                image.save(keep)
            raise Overdue(f"waited {seconds:g} s for {what} on the screen" + (f", see {keep}" if keep else ""))
        time.sleep(LOOK_SECONDS)


def _colour(value: object) -> Colour:
    if not isinstance(value, tuple) or len(value) != 3:
        raise TypeError("not an RGB image")
    red, green, blue = value
    return int(red), int(green), int(blue)
