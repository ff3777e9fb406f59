"""Images that differ in one thing from a finished one, made in a second: what a test wants to see refused, and an
empty init to measure against. The root tree is not built again.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from uuid import UUID

from sdbox.image.authenticode import sign_file
from sdbox.image.cmdline import kernel_command_line
from sdbox.image.command import run
from sdbox.image.disk import put_beside_loader, put_loader
from sdbox.image.gpt import Partition, read_partitions
from sdbox.image.initrd import Entry, cpio_archive
from sdbox.image.request import BuiltImage, ImageError, SigningKey
from sdbox.image.uki import UkiParts, make_unsigned_addon, make_unsigned_uki

ESP_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT_TYPE = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
FIRST_BLOCK = 0  # holds the superblock: read by every boot, and checked by our own initrd with a word of ours
EMPTY_INIT = "/usr/lib/sdbox/empty-init"


def signed_with(image: BuiltImage, key: SigningKey, disk: Path) -> Path:
    """Write a copy of the disk whose UKI is signed with `key` instead; the firmware's variables stay as they are."""
    uki = disk.with_suffix(".efi")
    sign_file(image.unsigned_uki, key, uki)
    return _with_loader(image, uki, disk)


def unsigned(image: BuiltImage, disk: Path) -> Path:
    """Write a copy of the disk whose UKI has no signature."""
    return _with_loader(image, image.unsigned_uki, disk)


def with_empty_init(image: BuiltImage, key: SigningKey, disk: Path) -> Path:
    """Write a copy of the disk that boots the same kernel, initrd and root to a program that only waits."""
    return with_command_line(image, key, disk, extra=(f"init={EMPTY_INIT}",))


def with_command_line(image: BuiltImage, key: SigningKey, disk: Path, *, extra: tuple[str, ...]) -> Path:
    """Write a copy of the disk whose UKI has `extra` words on its command line, signed with `key`."""
    raw, uki = disk.with_suffix(".unsigned.efi"), disk.with_suffix(".efi")
    text = kernel_command_line(image.root_hash, image.profile, extra=extra)
    make_unsigned_uki(UkiParts(image.kernel, image.initrd, image.os_release, text), raw)
    sign_file(raw, key, uki)
    return _with_loader(image, uki, disk)


def another_version(image: BuiltImage, key: SigningKey, uki: Path, *, version: str) -> Path:
    """Write `uki`, signed with `key`: the image's under another version; kernel, initrd and root are the same."""
    raw, named = uki.with_suffix(".unsigned.efi"), uki.with_suffix(".release")
    text = image.os_release.read_text(encoding="utf-8")
    named.write_text(re.sub(r"^IMAGE_VERSION=.*$", f"IMAGE_VERSION={version}", text, flags=re.MULTILINE), "utf-8")
    make_unsigned_uki(UkiParts(image.kernel, image.initrd, named, image.cmdline.read_text(encoding="ascii")), raw)
    sign_file(raw, key, uki)
    return uki


def with_files_beside(image: BuiltImage, disk: Path, *files: Path) -> Path:
    """Write a copy of the disk with `files` in the folder beside the UKI that systemd-stub looks into."""
    _copy(image.disk, disk)
    put_beside_loader(files, disk, offset=_partition(disk, ESP_TYPE).start)
    return disk


def addon(output: Path, key: SigningKey | None, *, cmdline: str = "", file: str = "") -> Path:
    """Write a kernel add-on that brings kernel words, or an initrd with one empty `file`; signed if there is a key."""
    raw, archive = output.with_suffix(".unsigned"), output.with_suffix(".cpio")
    if file:
        archive.write_bytes(cpio_archive([Entry(file, stat.S_IFREG | 0o644)]))
    make_unsigned_addon(raw, cmdline=cmdline, initrd=archive if file else None)
    if key:
        sign_file(raw, key, output)
    else:
        raw.rename(output)
    return output


def empty_init_command_line(image: BuiltImage) -> str:
    """Return the image's command line with the empty init, for a direct kernel boot as well."""
    return kernel_command_line(image.root_hash, image.profile, extra=(f"init={EMPTY_INIT}",))


def with_flipped_byte(image: BuiltImage, disk: Path, *, offset: int = FIRST_BLOCK) -> Path:
    """Write a copy of the disk with one bit of the root file system inverted, `offset` bytes into it."""
    _copy(image.disk, disk)
    root = _partition(disk, ROOT_TYPE)
    if not 0 <= offset < root.size:
        raise ImageError(f"the root file system has no byte {offset}")
    with disk.open("r+b") as file:
        file.seek(root.start + offset)
        (byte,) = file.read(1)
        file.seek(root.start + offset)
        file.write(bytes([byte ^ 1]))
    return disk


def _with_loader(image: BuiltImage, uki: Path, disk: Path) -> Path:
    _copy(image.disk, disk)
    put_loader(uki, disk, offset=_partition(disk, ESP_TYPE).start)
    return disk


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    run("copy of a disk", ["cp", "--reflink=auto", "--sparse=always", str(source), str(target)])


def _partition(disk: Path, kind: UUID) -> Partition:
    return next(part for part in read_partitions(disk) if part.kind == kind)
