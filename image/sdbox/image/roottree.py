"""The box's root tree: Debian's packages without what the box does not need, then our files, users and units."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sdbox.image import kernel_modules, trim
from sdbox.image.cache import cached
from sdbox.image.command import EPOCH, run, run_inside
from sdbox.image.fingerprint import Part
from sdbox.image.initrd import initrd_archive
from sdbox.image.python_files import install_python
from sdbox.image.request import BuildRequest, ImageError, Profile
from sdbox.image.site import CA_ON_BOX, card_roots, centre_ca, firewall_rules, site_toml
from sdbox.image.source import Source

REMOVED, PROGRAMS, KEPT_UNITS = "image/trim/remove.txt", "image/trim/programs.txt", "image/units/keep.txt"
ROOT_MODULES, INITRD_MODULES = "image/modules/root.txt", "image/modules/initrd.txt"

# Where the files beside a component's Python package go: folder of the component, pattern, place on the box.
COMPONENT_FILES = (
    ("units", "*", "usr/lib/systemd/system"),
    ("dbus", "*.conf", "usr/share/dbus-1/system.d"),
    ("sysusers", "*.conf", "usr/lib/sysusers.d"),
    ("tmpfiles", "*.conf", "usr/lib/tmpfiles.d"),
    ("udev", "*.rules", "usr/lib/udev/rules.d"),
    ("presets", "*.preset", "usr/lib/systemd/system-preset"),
)


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a root tree is put together from: results of the steps before."""

    trimmed: Path
    wheels: Path
    own: Path
    empty_init: Path


def ensure_trimmed_tree(source: Source, base: Path, program: Path) -> Path:
    """Return a folder with `tree` (trimmed Debian), `vmlinuz` and `initrd`, from `base` and the /init `program`."""
    lists = (REMOVED, KEPT_UNITS, ROOT_MODULES, INITRD_MODULES)
    parts: list[Part] = [base.name, program, *(source.root / name for name in lists)]
    return cached("trimmed", parts, lambda folder: _trim(source, folder, base, program))


def _trim(source: Source, folder: Path, base: Path, program: Path) -> None:
    tree = folder / "tree"
    copy_tree(base / "tree", tree)
    release = kernel_modules.kernel_release(tree)
    modules = tree / "usr/lib/modules" / release
    shutil.copyfile(tree / "boot" / f"vmlinuz-{release}", folder / "vmlinuz")
    (folder / "initrd").write_bytes(initrd_archive(program, source.words(INITRD_MODULES), modules))
    index = kernel_modules.parse_modules_dep((modules / "modules.dep").read_text(encoding="utf-8"))
    kernel_modules.keep_modules(modules, index.closure(source.words(ROOT_MODULES)))
    run_inside("module index", tree, ["depmod", release])
    trim.keep_unit_links(tree, source.words(KEPT_UNITS))
    trim.remove_paths(tree, source.words(REMOVED))


def copy_tree(source: Path, target: Path) -> None:
    """Copy a whole tree with owners, modes and links; shares blocks where the file system can."""
    run("copy of a root tree", ["cp", "--archive", "--reflink=auto", str(source), str(target)])


def assemble(source: Source, request: BuildRequest, ingredients: Ingredients, tree: Path) -> None:
    """Make the finished root tree of `request` at `tree`."""
    copy_tree(ingredients.trimmed / "tree", tree)
    for overlay in _overlays(source, request.profile):
        run("overlay", ["cp", "--recursive", "--no-dereference", "--no-preserve=ownership", f"{overlay}/.", str(tree)])
    for origin, target in component_files(source.agent):
        _put(tree, target, origin.read_bytes())
    _put_site(request, tree)
    _put(tree, "usr/lib/sdbox/empty-init", ingredients.empty_init.read_bytes(), mode=0o755)
    install_python(ingredients.wheels / "site", ingredients.own / "site", tree)
    _finish(tree)
    if request.profile is Profile.PRODUCTION:
        trim.keep_programs(tree, source.words(PROGRAMS))
    trim.drop_set_id(tree)


def _overlays(source: Source, profile: Profile) -> Iterator[Path]:
    yield source.image / "rootfs"
    if profile is Profile.DEBUG:
        yield source.image / "rootfs-debug"


def component_files(component: Path) -> Iterator[tuple[Path, str]]:
    """Yield the unit, policy, user and tmpfiles files of a component and where they go on the box."""
    for folder, pattern, place in COMPONENT_FILES:
        for path in sorted((component / folder).rglob(pattern)):
            if path.is_file() and path.name != "README.md":
                yield path, f"{place}/{path.relative_to(component / folder)}"


def _put(tree: Path, name: str, data: bytes, *, mode: int = 0o644) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def _put_site(request: BuildRequest, tree: Path) -> None:
    _put(tree, "usr/lib/sdbox/site.toml", site_toml(request.site).encode())
    _put(tree, "usr/lib/sdbox/firewall.nft", firewall_rules(request.site).encode())
    _put(tree, CA_ON_BOX.removeprefix("/"), centre_ca(request.site))
    for name, certificate in card_roots(request.site).items():
        _put(tree, name, certificate)
    _put(tree, "usr/lib/os-release", os_release(request).encode())


def os_release(request: BuildRequest) -> str:
    """Return os-release(5) of the image."""
    version = request.image_version
    fields = {
        "ID": "sdbox",
        "ID_LIKE": "debian",
        "NAME": '"SD-Box"',
        "PRETTY_NAME": f'"SD-Box {version}"',
        "VERSION_ID": version,
    }
    fields |= {"VARIANT_ID": request.profile.value, "IMAGE_ID": "sdbox", "IMAGE_VERSION": version}
    return "".join(f"{name}={value}\n" for name, value in fields.items())


def _finish(tree: Path) -> None:
    """Run what packages would run when they are set up; the tree is read-only on the box."""
    run_inside("users of the box", tree, ["systemd-sysusers"])
    check_users(tree)
    lock_passwords(tree)
    run_inside("units of the box", tree, ["systemctl", "--root=/", "preset-all"])
    _cache_fonts(tree)
    run_inside("library cache", tree, ["ldconfig", "-X"])
    _empty_state(tree)


def check_users(tree: Path) -> None:
    """Refuse a user that a sysusers.d file declares and systemd-sysusers left out: it only warns about a bad line."""
    lines = [
        line
        for path in sorted((tree / "usr/lib/sysusers.d").glob("*.conf"))
        for line in path.read_text("utf-8").splitlines()
    ]
    declared = {line.split()[1] for line in lines if line.startswith(("u ", "u! "))}
    present = {line.partition(":")[0] for line in (tree / "etc/passwd").read_text(encoding="utf-8").splitlines()}
    if missing := sorted(declared - present):
        raise ImageError(f"systemd-sysusers did not make user {missing[0]}: correct its line in sysusers.d")


def lock_passwords(tree: Path) -> None:
    """Nobody has a password: shadow(5), second field `!*`; the debug console logs in without asking for one."""
    path = tree / "etc/shadow"
    entries = (line.split(":") for line in path.read_text(encoding="utf-8").splitlines())
    # The third field is the day of the last change, which would be today.
    locked = [":".join((name, "!*", "20454" if rest[0] else "", *rest[1:])) for name, _, *rest in entries]
    path.write_text("\n".join(locked) + "\n", encoding="utf-8")


def _cache_fonts(tree: Path) -> None:
    """Make the font cache where fonts.conf has it, under /usr: one made at start-up costs seconds."""
    for path in (tree / "usr/share/fonts", *(tree / "usr/share/fonts").rglob("*")):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)  # as mkfs.erofs will set them, else the cache is stale
    run_inside("font cache", tree, ["fc-cache", "--force", "--system-only"])


def _empty_state(tree: Path) -> None:
    for folder in ("var", "run", "tmp", "root", "home", "boot", "mnt", "media", "opt", "srv"):
        shutil.rmtree(tree / folder, ignore_errors=True)
    for folder in ("var", "run", "tmp", "root"):
        (tree / folder).mkdir()
    # An empty file: systemd lays a transient one over it (machine-id(5)).
    _put(tree, "etc/machine-id", b"")
    _link(tree / "etc/resolv.conf", "/dev/null")
    trim.remove_paths(tree, ("etc/*-", "etc/.*.lock", "etc/ld.so.cache~", "usr/lib/sysimage"))


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def inputs(source: Source, request: BuildRequest, ingredients: Ingredients) -> Iterable[Part]:
    """Return all that decides what `assemble` makes."""
    yield from (ingredients.trimmed.name, ingredients.wheels.name, ingredients.own.name, ingredients.empty_init)
    yield request.profile.value
    yield from (site_toml(request.site), firewall_rules(request.site), centre_ca(request.site), os_release(request))
    for name, certificate in card_roots(request.site).items():
        yield from (name, certificate)
    yield from (source.root / PROGRAMS, *_overlays(source, request.profile))
    for origin, target in component_files(source.agent):
        yield from (target, origin)
