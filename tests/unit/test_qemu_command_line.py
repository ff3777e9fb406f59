"""QEMU's command line: what makes the tests of Secure Boot and of the network mean something."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from sdbox.qemu.keyboard import strokes
from sdbox.qemu.spec import Firmware, MachineSpec, Nic, Reader, arguments
from sdbox.qemu.tpm import TpmState

BOX = uuid.UUID("5db0c0de-0000-4000-8000-0000000000ff")


def full_spec() -> MachineSpec:
    firmware = Firmware(Path("/f/code.fd"), Path("/f/vars.fd"))
    return MachineSpec(
        work=Path("/w"),
        uuid=BOX,
        disk=Path("/i/disk.raw"),
        firmware=firmware,
        tpm=TpmState(Path("/t")),
        nic=Nic("ns", "tap0"),
    )


def command(spec: MachineSpec, *, incoming: bool = False) -> str:
    return " ".join(arguments(spec, qmp_fd=7, tpm_address=Path("/w/tpm.sock"), incoming=incoming))


def test_flash_is_out_of_the_guest_s_reach_without_smm() -> None:
    line = command(full_spec())
    assert "q35,smm=on" in line
    assert "driver=cfi.pflash01,property=secure,value=on" in line
    assert "readonly=on,file=/w/code.fd" in line


def test_only_the_machine_s_own_files_are_writable() -> None:
    line = command(full_spec())
    assert "/i/disk.raw" not in line, "the image itself is never opened for writing"
    assert "/f/vars.fd" not in line


def test_there_is_no_device_that_was_not_asked_for() -> None:
    line = command(MachineSpec(work=Path("/w"), uuid=BOX, reader=Reader.NONE))
    assert "-nodefaults" in line
    assert not any(word in line for word in ("-netdev", "-nic", "ccid", "usb-redir", "virtio-blk", "pflash", "-vnc"))


def test_the_reader_is_of_the_wire_that_was_asked_for() -> None:
    usb, vscard = (command(MachineSpec(work=Path("/w"), uuid=BOX, reader=wire)) for wire in (Reader.USB, Reader.VSCARD))
    for line in (usb, vscard):
        assert "id=card,path=/w/card.sock,server=on,wait=off" in line
    assert "usb-redir,chardev=card" in usb
    assert "ccid" not in usb
    assert "ccid-card-passthru,chardev=card" in vscard
    assert "usb-redir" not in vscard


def test_the_processor_reports_the_microcode_revision_that_was_asked_for() -> None:
    spec = full_spec()
    assert "ucode-rev" not in command(spec)
    assert f"-cpu {spec.acceleration.cpu},ucode-rev=0x2100000021 " in command(replace(spec, microcode=0x21))


def test_a_saved_machine_waits_for_its_state() -> None:
    assert command(full_spec(), incoming=True).endswith("-incoming defer")
    assert "-incoming" not in command(full_spec())


def test_the_product_uuid_is_the_box_id() -> None:
    assert f"-uuid {BOX}" in command(full_spec())


def test_text_becomes_key_strokes() -> None:
    assert strokes("a1Z\n") == [("a",), ("1",), ("shift", "z"), ("ret",)]


def test_a_character_without_a_key_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="no key") as caught:
        strokes("12é4")
    assert "é" not in str(caught.value)
