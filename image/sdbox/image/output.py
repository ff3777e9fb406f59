"""The folder of a finished image: names of its files, and the copy out of the cache."""

from __future__ import annotations

import json
from pathlib import Path

from sdbox.image.command import run
from sdbox.image.request import BuiltImage, ImageError, Profile

FILES = {
    "disk": "sdbox.raw",
    "uki": "sdbox.efi",
    "unsigned_uki": "sdbox-unsigned.efi",
    "ovmf_vars": "ovmf-vars.fd",
    "ovmf_code": "ovmf-code.fd",
    "manifest": "manifest.json",
    "reference": "reference.json",
    "kernel": "vmlinuz",
    "initrd": "initrd",
    "cmdline": "cmdline",
    "os_release": "os-release",
}
STAMP = ".made-from"


def publish(image: Path, output: Path) -> None:
    """Make `output` hold the files of the cached `image`; nothing is copied if it does already."""
    stamp = output / STAMP
    wanted = {name: (image / name).stat().st_size for name in FILES.values()}
    if stamp.exists() and stamp.read_text(encoding="utf-8") == image.name and _sizes(output, wanted) == wanted:
        return
    output.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)  # a copy that is cut off must not look finished
    paths = [str(image / name) for name in wanted]
    run("copy of the image", ["cp", "--reflink=auto", "--sparse=always", *paths, str(output)])
    stamp.write_text(image.name, encoding="utf-8")


def _sizes(folder: Path, names: dict[str, int]) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}


def finished_image(output: Path) -> BuiltImage:
    """Return the image in folder `output`; ImageError if there is none."""
    paths = {field: output / name for field, name in FILES.items()}
    missing = sorted(path.name for path in paths.values() if not path.is_file())
    if missing:
        raise ImageError(f"{output} holds no finished image: {missing[0]} is missing")
    manifest = json.loads(paths["manifest"].read_text(encoding="utf-8"))
    return BuiltImage(**paths, root_hash=manifest["root_hash"], profile=Profile(manifest["profile"]))
