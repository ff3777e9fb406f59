"""The initrd: archive format, module order, which device wants which module."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sdbox.image.initrd import Entry, cpio_archive, module_list
from sdbox.image.kernel_modules import aliases_of, parse_modules_dep
from sdbox.image.request import ImageError

DEP = """\
kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/lib/libcrc32c.ko.xz:
kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/md/dm-bufio.ko.xz: kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/md/dm-mod.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
"""
ALIAS = """\
# Aliases extracted from modules themselves.
alias virtio:d00000002v* virtio_blk
alias fs-erofs erofs
alias pci:v*d*sv*sd*bc01sc08i02* nvme
"""
ENTRIES = (Entry("dev", stat.S_IFDIR | 0o755), Entry("init", stat.S_IFREG | 0o755, b"program"))


def test_dependencies_are_loaded_before_what_needs_them() -> None:
    files = parse_modules_dep(DEP).closure(["dm-verity", "erofs"])
    names = [Path(file).name.split(".")[0] for file in files]
    assert names == ["dm-mod", "dm-bufio", "dm-verity", "libcrc32c", "erofs"]


def test_a_module_the_kernel_does_not_have_is_an_error() -> None:
    with pytest.raises(ImageError, match="usb_storage"):
        parse_modules_dep(DEP).closure(["usb_storage"])


def test_a_dash_and_an_underscore_name_the_same_module() -> None:
    assert aliases_of(ALIAS, ["virtio-blk"]) == [("virtio:d00000002v*", "virtio_blk")]


def test_always_and_by_device() -> None:
    files, conf = module_list(["+dm-verity", "+erofs", "virtio_blk"], DEP, ALIAS)
    assert len(files) == 6
    assert conf.splitlines() == [
        "! dm_mod.ko dm_bufio.ko dm_verity.ko libcrc32c.ko erofs.ko",
        "virtio:d00000002v* virtio_blk.ko",
    ]


def test_the_archive_is_the_same_every_time() -> None:
    assert cpio_archive(ENTRIES) == cpio_archive(ENTRIES)
    assert len(cpio_archive(ENTRIES)) % 512 == 0
