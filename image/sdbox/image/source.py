"""The source tree the image is built from: the build reads its lists and overlays, so it runs from a checkout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdbox.image.request import ImageError

# What of the distribution is on the box; the rest of it (gateway, bench) is left out of the image.
BOX_PARTS = ("protocol", "boot", "attestation", "smartcard", "agent")
BUILD_PARTS = ("image/packages", "image/trim", "image/modules", "image/units", "image/rootfs", "image/rootfs-debug")


@dataclass(frozen=True, slots=True)
class Source:
    """A checkout."""

    root: Path

    @property
    def image(self) -> Path:
        return self.root / "image"

    @property
    def agent(self) -> Path:
        return self.root / "agent"

    @property
    def lock(self) -> Path:
        return self.root / "requirements" / "box.lock"

    def words(self, *names: str) -> tuple[str, ...]:
        """Return the words of list files below the root, in order; `#` starts a comment."""
        return tuple(word for name in names for word in read_words(self.root / name))


def find_source() -> Source:
    """Return the checkout this package runs from; ImageError if it is an installed wheel."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "image" / "packages" / "base.txt").is_file():
        raise ImageError(
            "the image is built from a source checkout: install it there with `make`, then run `sdbox image`"
        )
    return Source(root)


def read_words(path: Path) -> Iterator[str]:
    """Yield the words of a list file, without comments."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield from line.partition("#")[0].split()
