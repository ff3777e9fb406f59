"""What does not boot: what is not signed with our key, one changed bit of the root, added kernel words (S1).

And what boots to say why it goes no further: a box whose TPM is gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sdbox.bench.lab import Lab
from sdbox.bench.sight import classify
from sdbox.bench.stand import development_tpm, machine_spec
from sdbox.image.build import BuiltImage
from sdbox.image.request import SigningKey, development_keys
from sdbox.image.variants import signed_with, unsigned, with_flipped_byte
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state

pytestmark = [pytest.mark.system, pytest.mark.root]
FIRMWARE_REFUSES = r"Access Denied|Security Violation"
KERNEL_STARTED = "sdbox-boot initrd"


@contextmanager
def booting(image: BuiltImage, lab: Lab, disk: Path, work: Path, *, words: tuple[str, ...] = ()) -> Iterator[Machine]:
    """Power on the bench's box with another disk, or with SMBIOS words that whoever holds the box put there."""
    changed = dataclasses.replace(image, disk=disk)
    spec = machine_spec(changed, lab, work / "m", copy_state(development_tpm(), work / "tpm"))
    with Machine(dataclasses.replace(spec, words=words)) as machine:
        yield machine


def test_firmware_refuses_an_image_signed_with_another_key(image: BuiltImage, lab: Lab, tmp_path: Path) -> None:
    disk = signed_with(image, SigningKey.named(development_keys(), "box-debug-db"), tmp_path / "foreign.raw")
    with booting(image, lab, disk, tmp_path) as machine:
        machine.wait_console(FIRMWARE_REFUSES, 90)
        assert KERNEL_STARTED not in machine.console.text()


def test_firmware_refuses_an_unsigned_image(image: BuiltImage, lab: Lab, tmp_path: Path) -> None:
    disk = unsigned(image, tmp_path / "unsigned.raw")
    with booting(image, lab, disk, tmp_path) as machine:
        machine.wait_console(FIRMWARE_REFUSES, 90)
        assert KERNEL_STARTED not in machine.console.text()


def test_one_changed_bit_of_the_root_stops_the_box(image: BuiltImage, lab: Lab, tmp_path: Path) -> None:
    disk = with_flipped_byte(image, tmp_path / "flipped.raw")
    with booting(image, lab, disk, tmp_path) as machine:
        code = machine.console.wait_refused(120)
        assert code.startswith("image-")
        assert "sdbox-phase agent-start" not in machine.console.text()


def test_a_kernel_word_from_the_board_stops_the_box(image: BuiltImage, lab: Lab, tmp_path: Path) -> None:
    """systemd-stub(7) appends such words to the signed command line, in a virtual machine with Secure Boot as well."""
    words = ("io.systemd.stub.kernel-cmdline-extra=systemd.mask=sdbox-firewall.service",)
    with booting(image, lab, image.disk, tmp_path, words=words) as machine:
        assert machine.console.wait_refused(120) == "image-cmdline"
        assert "sdbox-phase agent-start" not in machine.console.text()


def test_a_box_without_a_tpm_says_so_on_its_screen(image: BuiltImage, lab: Lab, tmp_path: Path, pictures: Path) -> None:
    """TPM switched off in the firmware's setup, or broken: nothing is measured, and nobody has to guess."""
    spec = dataclasses.replace(machine_spec(image, lab, tmp_path / "m", development_tpm()), tpm=None)
    with Machine(spec) as machine:
        assert machine.console.wait_refused(180) == "box-tpm-absent"
        shown = machine.wait_pixels(lambda picture: classify(picture) == "refused", "the refusal on the screen", 60)
        shown.save(pictures / "no-tpm.png", optimize=True)
