"""The image build: `build_image` runs the steps in order and hands back the finished files.

base tree -> trimmed tree, kernel, initrd -> root tree with our files -> erofs, verity      (cached: `root-*`)
command line with the root hash -> UKI -> signature -> disk, firmware, reference values     (cached: `image-*`)
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sdbox.host.tools import ensure_tools_tree
from sdbox.image import basetree, python_site, roottree
from sdbox.image.cache import cached
from sdbox.image.checks import check_host, check_request
from sdbox.image.fingerprint import Part
from sdbox.image.initrd import ensure_programs
from sdbox.image.output import finished_image, publish
from sdbox.image.package import make_image
from sdbox.image.progress import Progress
from sdbox.image.request import BuildRequest, BuiltImage, ImageError, Producer, Profile, SiteSettings, signing_name
from sdbox.image.source import Source, find_source
from sdbox.image.uki import compress_initrd
from sdbox.image.verity import make_root

__all__ = ["BuildRequest", "BuiltImage", "ImageError", "Producer", "Profile", "SiteSettings", "build_image"]


def build_image(request: BuildRequest, progress: Progress | None = None) -> BuiltImage:
    """Build the image `request` describes, or find it finished; ImageError with one clear line otherwise."""
    progress = progress or Progress()
    check_request(request)
    check_host()
    source = find_source()
    with progress.step("tools tree"):
        tools = ensure_tools_tree()
    root = ensure_root(source, request, progress)
    with progress.step("UKI, disk, firmware, reference values"):
        parts: list[Part] = [root.name, tools.name, *_code(source), *_keys(request)]
        image = cached("image", parts, lambda folder: make_image(source, request, root, folder))
    publish(image, request.output)
    return finished_image(request.output)


def ensure_root(source: Source, request: BuildRequest, progress: Progress) -> Path:
    """Return a folder with root.erofs, root.verity, root.hash, vmlinuz, initrd, os-release and packages.json."""
    with progress.step("Debian packages"):
        base = basetree.ensure_base_tree(source, request.profile)
    with progress.step("trimmed tree, kernel, initrd"):
        programs = ensure_programs(source)
        trimmed = roottree.ensure_trimmed_tree(source, base, programs / "init")
    with progress.step("Python packages"):
        wheels, own = python_site.ensure_locked_wheels(source), python_site.ensure_own_wheel(source)
    ingredients = roottree.Ingredients(trimmed, wheels, own, programs / "empty-init")
    with progress.step("root file system"):
        parts = [*roottree.inputs(source, request, ingredients), *_code(source)]
        return cached("root", parts, lambda folder: _make_root(source, request, ingredients, folder))


def _make_root(source: Source, request: BuildRequest, ingredients: roottree.Ingredients, folder: Path) -> None:
    tree = folder / "tree"
    roottree.assemble(source, request, ingredients, tree)
    shutil.copyfile(tree / "usr/lib/os-release", folder / "os-release")
    make_root(tree, folder)
    compress_initrd(ingredients.trimmed / "initrd", folder / "initrd")
    shutil.copyfile(ingredients.trimmed / "vmlinuz", folder / "vmlinuz")
    shutil.rmtree(tree)


def _code(source: Source) -> tuple[Path, ...]:
    """The steps themselves are inputs: a changed step makes its results anew."""
    return (source.image / "sdbox", source.root / "boot" / "sdbox")


def _keys(request: BuildRequest) -> tuple[Path, ...]:
    names = ("PK", "KEK", signing_name(request.profile))
    return tuple(path for name in names for path in (request.keys / f"{name}.crt", request.keys / f"{name}.key"))
