"""Which acceleration QEMU may use. A /dev/kvm that opens can still hang or die: only a guest that ran counts."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sdbox.host.tools import tools_command
from sdbox.host.workfolder import work_prefix

PROBE_SECONDS = 2
RESET_VECTOR = 0xFFF0
FIRMWARE_SIZE = 0x10000
PROBE_CODE = bytes.fromhex("b021 e6f4 f4")  # mov al, 0x21; out 0xf4, al; hlt
PROBE_EXIT = 0x21 << 1 | 1  # what isa-debug-exit makes of it


@dataclass(frozen=True, slots=True)
class Acceleration:
    """QEMU's `-accel` and `-cpu` values, and why they were chosen (for the announcement)."""

    accel: str
    cpu: str
    why: str


# Without what makes software emulation slower than it needs to be: `rep stosb` and `rep movsb`, which a kernel prefers
# where they are fast (erms, fsrm), are carried out byte by byte; a fifth level of page tables is walked (la57); and the
# C library's string functions for 256-bit registers (avx2) call a helper for each instruction.
TCG = Acceleration("tcg,thread=multi", "max,-erms,-fsrm,-la57,-avx,-avx2", "software emulation")
# KVM can not lend a processor that the host does not have, so TCG's model is none for it. What the initrd measures
# (PCR 15) then names the host's processor: no reference value has one, and a policy's minima are by processor.
KVM = Acceleration("kvm", "host", "KVM ran a probe guest")


@cache
def choose_acceleration(device: Path = Path("/dev/kvm")) -> Acceleration:
    """Return KVM if it executes a few instructions of a guest within two seconds, else TCG with the reason in `why`.

    Asked once per process: all its machines, saved ones too, then have the same processor.
    """
    if not device.exists():
        return replace(TCG, why=f"software emulation: no {device}")
    failure = _probe()
    return KVM if failure is None else replace(TCG, why=f"software emulation: {failure}")


def probe_firmware() -> bytes:
    """Return a 64 KiB firmware whose first instructions (Intel SDM 3A, 10.1.4) end QEMU with PROBE_EXIT."""
    return bytes(RESET_VECTOR) + PROBE_CODE + bytes(FIRMWARE_SIZE - RESET_VECTOR - len(PROBE_CODE))


def _probe(accel: str = "kvm") -> str | None:
    with tempfile.TemporaryDirectory(prefix=work_prefix("accel")) as folder:
        firmware = Path(folder, "probe.bin")
        firmware.write_bytes(probe_firmware())
        # The board of our machines: a KVM that runs a plain PC may still be without system management mode.
        argv = [
            "qemu-system-x86_64",
            "-accel",
            accel,
            "-M",
            "q35,smm=on",
            "-m",
            "16",
            "-nodefaults",
            "-display",
            "none",
        ]
        argv += ["-bios", str(firmware), "-device", "isa-debug-exit,iobase=0xf4,iosize=0x01", "-no-reboot"]
        return _run_probe(tools_command(argv, binds=[Path(folder)]))


def _run_probe(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"KVM's probe guest did not run within {PROBE_SECONDS} s"
    except OSError as error:
        return f"KVM's probe guest did not run ({error})"
    if done.returncode == PROBE_EXIT:
        return None
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"KVM's probe guest did not run ({said or f'exit code {done.returncode}'})"
