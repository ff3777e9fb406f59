"""A test stand: the image a card needs, an enrolled virtual box in a lab, and the card near its reader."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdbox.bench.softtoken import SoftToken, token_label
from sdbox.host.pki import ensure_development_pki
from sdbox.host.places import cache_folder, state_folder
from sdbox.image.request import BuildRequest, Profile, development_site
from sdbox.qemu.accel import choose_acceleration
from sdbox.qemu.card import CardProcess, CardSpec
from sdbox.qemu.machine import Machine
from sdbox.qemu.spec import Firmware, MachineSpec
from sdbox.qemu.tpm import TpmState, manufacture
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers

if TYPE_CHECKING:
    from sdbox.bench.hands import CardAtHand
    from sdbox.bench.lab import Lab
    from sdbox.image.build import BuiltImage

BOX = uuid.UUID("5db0c0de-0000-4000-8000-000000000001")
MEMORY = 1024  # MiB
MICROCODE = 0x5DB0  # revision that the bench's processor reports: not one that QEMU would by itself


@dataclass(frozen=True, slots=True)
class Card:
    """What the card near the reader is. `options` are those of `sdbox card emulate`."""

    variant: str = "sc-hsm-bio"
    projects: tuple[str, ...] = ("atlas", "boreal", "cassini")
    options: tuple[str, ...] = ()
    pin: str = ""  # instead of the development PIN


def is_token(variant: str) -> bool:
    """Whether `variant` has no reader: a token in the box's memory, into which only the debug profile lets it."""
    return token_label(variant_named(variant)) is not None


def request_for(variant: str) -> BuildRequest:
    """Return the image that the bench boots for a card: production, or for a token the debug profile with its slot."""
    if not is_token(variant):
        return BuildRequest(output=cache_folder() / "image-production")
    site = replace(development_site(), card_token=variant)
    return BuildRequest(output=cache_folder() / f"image-debug-{variant}", profile=Profile.DEBUG, site=site)


def inside_request() -> BuildRequest:
    """Return an image to be looked into from within: debug profile, and a session that nobody uses ends in a minute."""
    site = replace(development_site(), idle_minutes=1)
    return BuildRequest(output=cache_folder() / "image-debug", profile=Profile.DEBUG, site=site)


def development_tpm() -> TpmState:
    """Return the TPM of the bench's box, manufactured on first use; copy it before a machine uses it."""
    return manufacture(state_folder() / "tpm", state_folder() / "tpm-maker")


def machine_spec(image: BuiltImage, lab: Lab, work: Path, tpm: TpmState) -> MachineSpec:
    """Return the bench's box with this image on its disk, on a new tap of the lab's campus."""
    firmware = Firmware(image.ovmf_code, image.ovmf_vars)
    nic = lab.network.add_tap()
    spec = MachineSpec(work=work, uuid=BOX, disk=image.disk, firmware=firmware, tpm=tpm, nic=nic, memory=MEMORY)
    return replace(spec, microcode=MICROCODE, acceleration=choose_acceleration())


@contextmanager
def card_near(machine: Machine, card: Card) -> Iterator[CardAtHand]:
    """Yield an emulated card beside the machine's reader, not yet inserted; its process ends with the block.

    For a card that compares a finger of the box's sensor the process is that sensor as well.
    """
    if is_token(card.variant):
        with _token_near(machine, card) as token:
            yield token
        return
    pki = ensure_development_pki()
    options = ("--card-root", str(pki.key("card-root")), *card.options)
    if variant_named(card.variant).wants_box_sensor:
        options += ("--sensor", f"unix:{machine.plug_sensor()}")
    spec = CardSpec(card.variant, card.projects, pki.certificate("card-ca"), pki.key("card-ca"), options, card.pin)
    with CardProcess(spec, machine.spec, machine.spec.work) as process:
        yield process


def _token_near(machine: Machine, card: Card) -> SoftToken:
    if card.options or card.pin:
        raise ValueError("a token takes no options of the card emulator")
    pki = ensure_development_pki()
    issuer = Issuer.load(pki.certificate("card-ca"), pki.key("card-ca"))
    containers = fill_containers([Project(name) for name in card.projects], issuer)
    return SoftToken(variant_named(card.variant), containers, machine.spec)
