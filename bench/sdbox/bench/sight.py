"""What the box's screen shows, told from its pixels alone: a state of the screen, or a bubble's desktop."""

from __future__ import annotations

from PIL import Image

from sdbox.agent.screen.palette import TOLERANCE, state_of_pixel
from sdbox.bench.bubble import BENCH_BUBBLES
from sdbox.qemu.screen import band_colour, is_near, pixel, shows_mostly

DESKTOP = "desktop:"
BLANK = "blank"


def desktop(project: str) -> str:
    """Return the name under which `classify` reports the desktop of `project`."""
    return DESKTOP + project


def classify(image: Image.Image) -> str | None:
    """Return the screen state, `desktop:PROJECT`, `blank` for an all-black screen, or None for anything else."""
    band = band_colour(image)
    state = state_of_pixel(band)
    # The band runs over the whole width: a desktop with a toolbar of that colour must not pass for the box's screen.
    if state is not None and all(is_near(pixel(image, x, 4), band, TOLERANCE) for x in range(0, image.width, 16)):
        return state.value
    for bubble in BENCH_BUBBLES:
        if shows_mostly(bubble.colour)(image):
            return desktop(bubble.project)
    return BLANK if image.getextrema() == ((0, 0), (0, 0), (0, 0)) else None
