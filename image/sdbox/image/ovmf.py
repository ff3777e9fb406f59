"""OVMF with our own Secure Boot keys in its variables: what a box gets in the factory."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sdbox.host.tools import ensure_tools_tree
from sdbox.image.command import run

FIRMWARE = Path("usr/share/OVMF")
CODE, VARIABLES = "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd"
STRICT_CODE = "OVMF_CODE_4M.secboot.strictnx.fd"  # the same but for its rules on memory: not what our boxes have
LOADER_PATH = r"\EFI\BOOT\BOOTX64.EFI"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"  # EFI_GLOBAL_VARIABLE
ACTIVE = 1  # LOAD_OPTION_ACTIVE
LASTING = 7  # non-volatile, for boot services and at run time
OWNER = UUID("5db0a7e1-7e0f-4b1d-9c55-0d1f6a3c2b12")  # SignatureOwner of our signature lists (UEFI 2.10, 32.4.1)


@dataclass(frozen=True, slots=True)
class EnrolledKeys:
    """Certificates, PEM; `revoked` are SHA-256 (hex) of images that dbx forbids."""

    pk: Path
    kek: Path
    db: Path
    revoked: tuple[str, ...] = ()


def write_firmware(keys: EnrolledKeys, code: Path, variables: Path) -> None:
    """Write the firmware's code, and its variables with Secure Boot on and nobody's keys but `keys`."""
    folder = ensure_tools_tree() / FIRMWARE
    shutil.copyfile(folder / CODE, code)
    command = [
        sys.executable,
        "-m",
        "virt.firmware.vars",
        "--input",
        str(folder / VARIABLES),
        "--output",
        str(variables),
    ]
    command += ["--set-pk", str(OWNER), str(keys.pk), "--add-kek", str(OWNER), str(keys.kek)]
    for digest in keys.revoked:
        command += ["--add-dbx-hash", str(OWNER), digest]
    run("firmware variables", [*command, "--add-db", str(OWNER), str(keys.db), "--no-microsoft", "--sb"])


def write_boot_option(source: Path, variables: Path, *, words: str) -> None:
    """Write a copy of the variables whose first boot option starts our loader with `words` (UEFI 2.10, 3.1.3)."""
    path = b"".join((_file_path(LOADER_PATH), b"\x7f\xff\x04\x00"))
    option = struct.pack("<IH", ACTIVE, len(path)) + _text("sdbox") + path + _text(words)
    found = {"Boot0000": option, "BootOrder": bytes(2)}
    listed = [{"name": name, "guid": GLOBAL, "attr": LASTING, "data": data.hex()} for name, data in found.items()]
    description = variables.with_suffix(".json")
    description.write_text(json.dumps({"version": 2, "variables": listed}), encoding="utf-8")
    command = [sys.executable, "-m", "virt.firmware.vars", "--input", str(source), "--output", str(variables)]
    run("boot option", [*command, "--set-json", str(description)])


def _file_path(name: str) -> bytes:
    text = _text(name)
    return struct.pack("<BBH", 4, 4, 4 + len(text)) + text


def _text(words: str) -> bytes:
    return words.encode("utf-16-le") + bytes(2)
