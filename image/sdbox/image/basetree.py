"""Debian's part of the root tree: packages installed by mmdebstrap, and the record of what they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sdbox.host.debian import SUITE, install_tree
from sdbox.image.cache import cached
from sdbox.image.command import FIXED
from sdbox.image.request import ImageError, Profile
from sdbox.image.source import Source

LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*")


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package of the image."""

    name: str
    version: str
    sha256: str  # of the .deb, as the archive's signed index has it


def package_names(source: Source, profile: Profile) -> tuple[str, ...]:
    """Return the names of the packages to install."""
    lists = ["image/packages/base.txt", "agent/packages.txt"]
    if profile is Profile.DEBUG:
        lists.append("image/packages/debug.txt")
    return tuple(sorted(set(source.words(*lists))))


def ensure_base_tree(source: Source, profile: Profile) -> Path:
    """Return a folder with `tree` (unchanged Debian) and `packages.json`; the archive is asked on first use only."""
    names = package_names(source, profile)
    return cached("base", (SUITE, *names), lambda folder: _make_base_tree(folder, names))


def read_packages(base: Path) -> tuple[Package, ...]:
    """Return the record that `ensure_base_tree` wrote."""
    return tuple(Package(**each) for each in json.loads((base / "packages.json").read_text(encoding="utf-8")))


def _make_base_tree(folder: Path, names: tuple[str, ...]) -> None:
    tree = folder / "tree"
    options = ("--variant=essential", "--skip=cleanup/apt/lists")
    left_out = (f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT)
    install_tree(tree, names, *options, *left_out, env={**FIXED, "INITRD": "No"})  # the initrd is our own
    packages = [asdict(package) for package in _installed(tree)]
    (folder / "packages.json").write_text(json.dumps(packages, indent=1), encoding="utf-8")
    shutil.rmtree(tree / "var/lib/apt/lists")


def _installed(tree: Path) -> Iterator[Package]:
    hashes = _archive_hashes(tree / "var/lib/apt/lists")
    for block in _stanzas(tree / "var/lib/dpkg/status"):
        key = (block["Package"], block["Version"], block["Architecture"])
        if key not in hashes:
            raise ImageError(f"package {key[0]} {key[1]} is installed but not in the archive's index")
        yield Package(key[0], key[1], hashes[key])


def _archive_hashes(lists: Path) -> dict[tuple[str, str, str], str]:
    return {
        (block["Package"], block["Version"], block["Architecture"]): block["SHA256"]
        for index in sorted(lists.glob("*_Packages"))
        for block in _stanzas(index)
    }


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a deb822 file as field to first line."""
    with path.open(encoding="utf-8") as lines:
        block: dict[str, str] = {}
        for line in lines:
            if line == "\n":
                yield block
                block = {}
            elif not line.startswith((" ", "\t")):
                name, _, value = line.partition(":")
                block[name] = value.strip()
        if block:
            yield block
