"""What a machine is made of, and QEMU's command line for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from sdbox.qemu.accel import TCG, Acceleration
from sdbox.qemu.tpm import TpmState

DEFAULT_MAC = "52:54:00:5d:b0:01"


class Reader(StrEnum):
    """The machine's card reader, by the wire on which it waits for its card."""

    USB = "usb"  # the whole reader is at the other end, and plugged in while that is connected: any card
    VSCARD = "vscard"  # QEMU's usb-ccid: T=0 only
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Nic:
    """A tap that exists in network namespace `netns` (named under /run/netns); QEMU runs there."""

    netns: str
    tap: str
    mac: str = DEFAULT_MAC


@dataclass(frozen=True, slots=True)
class Firmware:
    """OVMF with SMM: `code` is used read-only, `variables` is the template that each machine copies."""

    code: Path
    variables: Path


@dataclass(frozen=True, slots=True)
class DirectKernel:
    """Linux started by QEMU itself, or, with a `Firmware`, by the firmware through QEMU's loader device."""

    kernel: Path
    initrd: Path | None = None
    cmdline: str = "console=ttyS0"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """A virtual box. `work` is the machine's own folder: disk overlay, variables, sockets and logs are made in it.

    A second run with the same `work` is the same machine powered on again; an empty `work` is a new machine.
    Keep its path short: unix socket addresses have at most 107 bytes.
    """

    work: Path
    uuid: UUID
    disk: Path | None = None  # raw image, never written
    firmware: Firmware | None = None
    tpm: TpmState | None = None  # used in place
    nic: Nic | None = None
    direct: DirectKernel | None = None
    memory: int = 1024  # MiB
    width: int = 1280
    height: int = 800
    reader: Reader = Reader.USB
    acceleration: Acceleration = TCG
    display: str = "none"  # QEMU's -display, or "vnc=unix:PATH"
    microcode: int | None = None  # revision that the processor reports (MSR 0x8B); None: QEMU's own
    words: tuple[str, ...] = ()  # SMBIOS OEM strings (type 11): what whoever holds the box could tell it

    @property
    def card_address(self) -> Path:
        """Unix socket on which the reader waits for its card, or QEMU for the reader (`reader` is the wire)."""
        return self.work / "card.sock"

    @property
    def second_serial_address(self) -> Path:
        """Unix socket of the second serial port, on which an image of the debug profile takes a token."""
        return self.work / "serial2.sock"

    @property
    def sensor_address(self) -> Path:
        """Unix socket on which a plugged-in fingerprint sensor waits for its twin."""
        return self.work / "sensor.sock"

    @property
    def overlay(self) -> Path:
        """What this machine wrote to its disk."""
        return self.work / "disk.qcow2"

    @property
    def variables(self) -> Path:
        """The machine's own copy of the firmware variables."""
        return self.work / "vars.fd"

    @property
    def firmware_code(self) -> Path:
        """The machine's own copy of the firmware, in `work` because the tools tree has nothing of the host's."""
        return self.work / "code.fd"

    @property
    def console_address(self) -> Path:
        """Unix socket of the serial console, for typing: what it prints is in `console_log` either way."""
        return self.work / "console.sock"

    @property
    def console_log(self) -> Path:
        """The serial console's output."""
        return self.work / "console.log"


def arguments(spec: MachineSpec, *, qmp_fd: int, tpm_address: Path | None, incoming: bool) -> list[str]:
    """Return QEMU's argument list. The device order is part of a saved machine: append only."""
    accel = spec.acceleration
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35,smm=on", "-accel", accel.accel]
    argv += ["-cpu", accel.cpu + _microcode(spec), "-smp", "1", "-m", str(spec.memory), "-uuid", str(spec.uuid)]
    argv += ["-chardev", f"socket,id=qmp,fd={qmp_fd}", "-mon", "chardev=qmp,mode=control"]
    serial = f"socket,id=serial,path={spec.console_address},server=on,wait=off,logfile={spec.console_log}"
    argv += ["-chardev", serial, "-serial", "chardev:serial"]
    argv += ["-device", f"virtio-gpu-pci,id=gpu,xres={spec.width},yres={spec.height}", "-vga", "none"]
    argv += (
        ["-vnc", spec.display.removeprefix("vnc=")] if spec.display.startswith("vnc=") else ["-display", spec.display]
    )
    argv += ["-device", "virtio-rng-pci", "-device", "qemu-xhci", "-device", "usb-kbd"]
    for part in (_firmware(spec), _direct(spec), _disk(spec), _tpm(tpm_address), _card(spec), _network(spec)):
        argv += part
    argv += ["-chardev", f"socket,id=serial2,path={spec.second_serial_address},server=on,wait=off"]
    argv += ["-serial", "chardev:serial2", *_words(spec)]
    return [*argv, *(["-incoming", "defer"] if incoming else [])]


def _microcode(spec: MachineSpec) -> str:
    """Intel's revision is the upper half of the register (SDM 3A, 11.11.7), AMD's the lower: both say the same."""
    return "" if spec.microcode is None else f",ucode-rev=0x{spec.microcode << 32 | spec.microcode:x}"


def _firmware(spec: MachineSpec) -> list[str]:
    if spec.firmware is None:
        return []
    # Without SMM and a secure flash a Secure Boot test proves nothing: the guest could write the variables itself.
    secure = ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    code = f"if=pflash,format=raw,unit=0,readonly=on,file={spec.firmware_code}"
    return [*secure, "-drive", code, "-drive", f"if=pflash,format=raw,unit=1,file={spec.variables}"]


def _direct(spec: MachineSpec) -> list[str]:
    if spec.direct is None:
        return []
    initrd = ["-initrd", str(spec.direct.initrd)] if spec.direct.initrd else []
    return ["-kernel", str(spec.direct.kernel), "-append", spec.direct.cmdline, *initrd]


def _disk(spec: MachineSpec) -> list[str]:
    if spec.disk is None:
        return []
    # The overlay is the machine's own and lives in its work folder: nothing reaches the image or outlives the run.
    drive = f"if=none,id=disk,format=qcow2,file={spec.overlay},cache=unsafe"
    return ["-drive", drive, "-device", "virtio-blk-pci,drive=disk,bootindex=1"]


def _tpm(address: Path | None) -> list[str]:
    if address is None:
        return []
    backend = ["-chardev", f"socket,id=tpm,path={address}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
    return [*backend, "-device", "tpm-crb,tpmdev=tpm0"]


def _card(spec: MachineSpec) -> list[str]:
    if spec.reader is Reader.NONE:
        return []
    chardev = ["-chardev", f"socket,id=card,path={spec.card_address},server=on,wait=off"]
    if spec.reader is Reader.USB:
        return [*chardev, "-device", "usb-redir,chardev=card"]
    return ["-device", "usb-ccid,id=ccid", *chardev, "-device", "ccid-card-passthru,chardev=card"]


def _words(spec: MachineSpec) -> list[str]:
    values = ",".join(f"value={word.replace(',', ',,')}" for word in spec.words)
    return ["-smbios", f"type=11,{values}"] if values else []


def _network(spec: MachineSpec) -> list[str]:
    if spec.nic is None:
        return []
    tap = f"tap,id=net,ifname={spec.nic.tap},script=no,downscript=no"
    return ["-netdev", tap, "-device", f"virtio-net-pci,netdev=net,mac={spec.nic.mac},romfile="]
