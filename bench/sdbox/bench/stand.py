"""A test stand: the built image, an enrolled virtual box in a lab, and a card near its reader."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdbox.host.pki import ensure_development_pki
from sdbox.host.places import state_folder
from sdbox.qemu.card import CardProcess, CardSpec
from sdbox.qemu.machine import Machine
from sdbox.qemu.spec import Firmware, MachineSpec
from sdbox.qemu.tpm import TpmState, manufacture

if TYPE_CHECKING:
    from sdbox.bench.lab import Lab
    from sdbox.image.build import BuiltImage

BOX = uuid.UUID("5db0c0de-0000-4000-8000-000000000001")
MEMORY = 1024  # MiB


@dataclass(frozen=True, slots=True)
class Card:
    """What the card near the reader is. `options` are those of `sdbox card emulate`."""

    variant: str = "sc-hsm-bio"
    projects: tuple[str, ...] = ("atlas", "boreal", "cassini")
    options: tuple[str, ...] = ()


def development_tpm() -> TpmState:
    """Return the TPM of the bench's box, manufactured on first use; copy it before a machine uses it."""
    return manufacture(state_folder() / "tpm", state_folder() / "tpm-maker")


def machine_spec(image: BuiltImage, lab: Lab, work: Path, tpm: TpmState) -> MachineSpec:
    """Return the bench's box with this image on its disk, on a new tap of the lab's campus."""
    firmware = Firmware(image.ovmf_code, image.ovmf_vars)
    nic = lab.network.add_tap()
    return MachineSpec(work=work, uuid=BOX, disk=image.disk, firmware=firmware, tpm=tpm, nic=nic, memory=MEMORY)


@contextmanager
def card_near(machine: Machine, card: Card) -> Iterator[CardProcess]:
    """Yield an emulated card beside the machine's reader, not yet inserted; the process ends with the block."""
    pki = ensure_development_pki()
    options = ("--card-root", str(pki.key("card-root")), *card.options)
    spec = CardSpec(card.variant, card.projects, pki.certificate("card-ca"), pki.key("card-ca"), options)
    with CardProcess(spec, machine.spec, machine.spec.work) as process:
        yield process
