"""The box's Python packages: locked wheels from PyPI and our own wheel, for the box's interpreter, not the host's."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from sdbox.image.cache import cached
from sdbox.image.command import run
from sdbox.image.fingerprint import Part
from sdbox.image.request import ImageError
from sdbox.image.source import BOX_PARTS, Source

PYTHON = "3.13"
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
NOT_ON_THE_BOX = (
    "sdbox/gateway/",
    "sdbox/image/",
    "sdbox/qemu/",
    "sdbox/bench/",
    "sdbox/host/",
    "sdbox/smartcard/virtual/",
)


def ensure_locked_wheels(source: Source) -> Path:
    """Return a folder with `site`: what requirements/box.lock names, each file checked against its hash."""
    if not source.lock.is_file():
        raise ImageError("requirements/box.lock is missing: run `make lock`")
    return cached("wheels", (PYTHON, *PLATFORMS, source.lock.read_bytes()), lambda folder: _install(source, folder))


def ensure_own_wheel(source: Source) -> Path:
    """Return a folder with `site`: our wheel, without the parts that are not for the box."""
    paths = [source.root / name for name in ("pyproject.toml", "README.md", "LICENSE", "smartcard/variants")]
    paths += [source.root / part / "sdbox" for part in BOX_PARTS]
    parts: list[Part] = [*(path for path in paths if path.exists()), *NOT_ON_THE_BOX]
    return cached("own", parts, lambda folder: _build(source, folder))


def _install(source: Source, folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--only-binary=:all:",
        "--no-compile",
        "--no-deps",
    ]
    command += ["--python-version", PYTHON, "--implementation", "cp", *(f"--platform={name}" for name in PLATFORMS)]
    run("locked Python packages", [*command, "--target", str(folder / "site"), "--requirement", str(source.lock)])


def _build(source: Source, folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(source.root),
    ]
    run("our wheel", command)
    (wheel,) = folder.glob("sdbox-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        # RECORD lists the parts that are left out as well, so it would change with them.
        wanted = [
            name for name in archive.namelist() if not name.startswith(NOT_ON_THE_BOX) and not name.endswith("/RECORD")
        ]
        archive.extractall(folder / "site", members=wanted)
    wheel.unlink()
