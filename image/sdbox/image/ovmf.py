"""OVMF with our own Secure Boot keys in its variables: what a box gets in the factory."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sdbox.host.tools import ensure_tools_tree
from sdbox.image.command import run

FIRMWARE = Path("usr/share/OVMF")
CODE, VARIABLES = "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd"
OWNER = UUID("5db0a7e1-7e0f-4b1d-9c55-0d1f6a3c2b12")  # SignatureOwner of our signature lists (UEFI 2.10, 32.4.1)


@dataclass(frozen=True, slots=True)
class EnrolledKeys:
    """Certificates, PEM."""

    pk: Path
    kek: Path
    db: Path


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
    run("firmware variables", [*command, "--add-db", str(OWNER), str(keys.db), "--no-microsoft", "--sb"])
