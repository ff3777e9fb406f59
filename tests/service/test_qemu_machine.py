"""A machine with real firmware and a software TPM, no image: screen, keys, console, reset, power cut, saved state."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sdbox.host.pki import ensure_development_pki
from sdbox.host.tools import ensure_tools_tree
from sdbox.qemu.card import CardProcess, CardSpec
from sdbox.qemu.child import ChildFailed
from sdbox.qemu.deadline import Overdue, wait_for
from sdbox.qemu.machine import Machine
from sdbox.qemu.screen import is_near, pixel
from sdbox.qemu.snapshot import SavedMachine, restore, save
from sdbox.qemu.spec import Firmware, MachineSpec
from sdbox.qemu.tpm import manufacture

pytestmark = pytest.mark.root

BOOT_SECONDS = 60.0
NOTHING_TO_BOOT = "Press any key to enter the Boot Manager Menu"
GREY = (152, 152, 152)  # background of the firmware's menu


def shows_menu(image: Image.Image) -> bool:
    return image.size == (1280, 800) and is_near(pixel(image, 300, 500), GREY)


def shows_list(image: Image.Image) -> bool:
    """Whether the menu's language list is open: a blue box below its entry."""
    return shows_menu(image) and pixel(image, 640, 356)[2] > 120 > pixel(image, 640, 356)[0]


def machine_spec(work: Path) -> MachineSpec:
    ovmf = ensure_tools_tree() / "usr/share/OVMF"
    firmware = Firmware(ovmf / "OVMF_CODE_4M.secboot.fd", ovmf / "OVMF_VARS_4M.fd")
    tpm = manufacture(work / "tpm", work / "maker")
    return MachineSpec(work=work / "m", uuid=uuid.uuid4(), firmware=firmware, tpm=tpm, memory=256)


def open_menu(machine: Machine, since: int = 0) -> None:
    """Wait until the firmware finds nothing to boot, then enter its menu."""
    machine.wait_console(NOTHING_TO_BOOT, BOOT_SECONDS, since=since)
    machine.press("esc")
    machine.wait_pixels(shows_menu, "the firmware's menu", BOOT_SECONDS)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(machine_spec(tmp_path_factory.mktemp("boot"))) as machine:
        open_menu(machine)
        yield machine


@pytest.fixture(scope="module")
def saved(booted: Machine, tmp_path_factory: pytest.TempPathFactory) -> SavedMachine:
    """The booted machine at rest: tests that need it running come before those that ask for this."""
    return save(booted, tmp_path_factory.mktemp("saved") / "s")


def test_the_console_has_the_firmware_s_words(booted: Machine) -> None:
    booted.wait_console("starting Boot0000", 10)


def test_twenty_screenshots_a_second(booted: Machine) -> None:
    started = time.monotonic()
    for _ in range(20):
        assert booted.screenshot().size == (1280, 800)
    assert time.monotonic() - started < 1.0


def test_a_key_reaches_the_guest(booted: Machine) -> None:
    booted.press("ret")
    booted.wait_pixels(shows_list, "the list of languages", 10)
    booted.type_keys("\n")
    booted.wait_pixels(lambda image: shows_menu(image) and not shows_list(image), "the menu again", 10)


def test_a_card_goes_in_and_out_of_the_reader(booted: Machine, tmp_path: Path) -> None:
    pki = ensure_development_pki(tmp_path / "pki")
    card = CardSpec("sc-hsm-bio", ("atlas",), pki.certificate("card-ca"), pki.key("card-ca"))
    with CardProcess(card, booted.spec, tmp_path) as process:
        assert process.insert() < process.remove() < process.insert()
        with pytest.raises(Overdue, match="card in"):
            process.wait_event("sensor match", 0.1)
    assert "card out" in [text for text, _ in process.events()][-1:], "a card left in is taken out before the end"
    with CardProcess(card, booted.spec, tmp_path) as process:
        process.insert()


def has_reader(machine: Machine) -> bool:
    """Whether a device of full speed, such as the reader, is at the other end of usb-redir."""
    listing = str(machine.qmp("human-monitor-command", 5.0, **{"command-line": "info usb"}))
    return "Speed 12 Mb/s, Product USB Redirection Device" in listing


def test_the_reader_is_plugged_in_while_its_emulator_lives(booted: Machine, tmp_path: Path) -> None:
    pki = ensure_development_pki(tmp_path / "pki")
    card = CardSpec("piv", ("atlas",), pki.certificate("card-ca"), pki.key("card-ca"))
    assert not has_reader(booted)
    with CardProcess(card, booted.spec, tmp_path) as process:
        wait_for(lambda: has_reader(booted), "the reader to be plugged in", 5)
        process.insert()
        process.kill()
        wait_for(lambda: not has_reader(booted), "the reader to be gone with its process", 5)


def test_a_card_that_is_refused_says_why(booted: Machine, tmp_path: Path) -> None:
    card = CardSpec("no-such-card", ("atlas",), tmp_path / "none.crt", tmp_path / "none.key")
    with pytest.raises(ChildFailed, match="card ended with 2"), CardProcess(card, booted.spec, tmp_path):
        pass


def test_reset_starts_the_firmware_again(booted: Machine) -> None:
    mark = booted.console.mark()
    booted.reset()
    open_menu(booted, since=mark)


def has_sensor(machine: Machine) -> bool:
    """Whether the guest sees it: `info usb` lists a device that is built in and not attached as well."""
    return machine.qmp("qom-get", 5.0, path="/machine/peripheral/sensor", property="attached") is True


def test_the_sensor_is_plugged_into_a_restored_machine_while_its_twin_lives(
    saved: SavedMachine, tmp_path: Path
) -> None:
    with restore(saved, tmp_path / "s", None) as machine:
        address = machine.plug_sensor()
        assert machine.plug_sensor() == address, "it is built in once"
        assert not has_sensor(machine)
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as twin:
                twin.connect(str(address))
                wait_for(lambda: has_sensor(machine), "the sensor to be there", 5)
            wait_for(lambda: not has_sensor(machine), "the sensor to be gone with its twin", 5)


def test_restored_machines_go_on_apart(saved: SavedMachine, tmp_path: Path) -> None:
    with restore(saved, tmp_path / "a", None) as one, restore(saved, tmp_path / "b", None) as other:
        assert shows_menu(one.screenshot())
        one.press("ret")
        one.wait_pixels(shows_list, "the list of languages", 10)
        assert not shows_list(other.screenshot())
        assert one.spec.variables != other.spec.variables
        assert one.spec.tpm != other.spec.tpm != saved.spec.tpm


def test_restoring_takes_about_a_second(saved: SavedMachine, tmp_path: Path) -> None:
    started = time.monotonic()
    with restore(saved, tmp_path / "a", None) as machine:
        machine.screenshot()
        assert time.monotonic() - started < 3.0


def test_power_comes_back_to_the_same_machine(saved: SavedMachine, tmp_path: Path) -> None:
    machine = restore(saved, tmp_path / "a", None)
    machine.start()
    machine.power_cut()
    with pytest.raises(ChildFailed):
        machine.screenshot()
    with Machine(machine.spec) as again:
        again.wait_console(NOTHING_TO_BOOT, BOOT_SECONDS)
        again.type_console("\x1b")
        again.wait_pixels(shows_menu, "the menu, opened from the serial console", BOOT_SECONDS)


def test_a_machine_that_can_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    spec = MachineSpec(work=tmp_path / "m", uuid=uuid.uuid4(), display="nonsense")
    with pytest.raises(ChildFailed, match="nonsense"):
        Machine(spec).start()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(path)]


def test_no_process_of_a_machine_stays(saved: SavedMachine, tmp_path: Path) -> None:
    with restore(saved, tmp_path / "a", None) as machine:
        machine.screenshot()
        assert _running(tmp_path), "the search must find the machine while it runs"
    assert _running(tmp_path) == []


def _running(folder: Path) -> list[str]:
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if str(folder).encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
