"""Kernel modules: a short list and what it depends on, instead of Debian's four thousand."""

from __future__ import annotations

import lzma
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sdbox.image.request import ImageError

ALIAS = re.compile(r"alias (\S+) (\S+)")


@dataclass(frozen=True, slots=True)
class ModuleIndex:
    """modules.dep of one kernel: a module's file, and the files to load before it, nearest first."""

    files: dict[str, str]
    needs: dict[str, tuple[str, ...]]

    def closure(self, names: Iterable[str]) -> list[str]:
        """Return the files of `names` and their dependencies in loading order; ImageError if one is unknown."""
        ordered: dict[str, None] = {}
        for name in names:
            file = self.files.get(canonical(name))
            if file is None:
                raise ImageError(f"the kernel has no module {name}: correct image/modules")
            ordered.update(dict.fromkeys((*reversed(self.needs[file]), file)))
        return list(ordered)


def canonical(name: str) -> str:
    """Return a module's name as the kernel writes it."""
    return name.replace("-", "_")


def module_name(file: str) -> str:
    """Return the module's name of a path such as kernel/fs/erofs/erofs.ko.xz."""
    return canonical(PurePosixPath(file).name.split(".")[0])


def parse_modules_dep(text: str) -> ModuleIndex:
    """Read modules.dep (depmod(8))."""
    needs = {}
    for line in text.splitlines():
        file, _, rest = line.partition(":")
        needs[file] = tuple(rest.split())
    return ModuleIndex({module_name(file): file for file in needs}, needs)


def aliases_of(text: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (pattern, module) of modules.alias for the modules in `names`."""
    wanted = {canonical(name) for name in names}
    found = (ALIAS.fullmatch(line) for line in text.splitlines())
    return [(each[1], each[2]) for each in found if each and canonical(each[2]) in wanted]


def kernel_release(tree: Path) -> str:
    """Return the release of the one kernel in `tree`."""
    releases = [path.name for path in (tree / "usr/lib/modules").iterdir()]
    if len(releases) != 1:
        raise ImageError(f"expected one kernel in the root tree, found {len(releases)}")
    return releases[0]


def unpacked(path: Path) -> bytes:
    """Return a module's bytes without compression; its signature is inside and stays."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def keep_modules(folder: Path, files: Iterable[str]) -> None:
    """Leave only `files` (relative to the release's folder) in it, uncompressed: erofs compresses and loads faster."""
    kept = folder.with_name(f"{folder.name}.kept")
    for file in files:
        target = kept / file.removesuffix(".xz")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(unpacked(folder / file))
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy2(folder / name, kept / name)
    shutil.rmtree(folder)
    kept.rename(folder)
