"""The kinds of card that are emulated: one line per variant. SoftHSM is its own emulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sdbox.smartcard.virtual.cvc import Holder, untrusted_root
from sdbox.smartcard.virtual.faults import Blockable
from sdbox.smartcard.virtual.gids import GidsCard
from sdbox.smartcard.virtual.goid import GoidCard
from sdbox.smartcard.virtual.iasecc import IasEccCard
from sdbox.smartcard.virtual.isoapplet import IsoAppletCard
from sdbox.smartcard.virtual.myeid import MyEidCard
from sdbox.smartcard.virtual.openpgp import OpenPgpCard
from sdbox.smartcard.virtual.personalise import FilledContainer
from sdbox.smartcard.virtual.piv import OCC_ATR, PivCard
from sdbox.smartcard.virtual.piv_references import (
    PIN,
    PRIMARY_FINGER,
    FingerReference,
    PinReference,
    Reference,
    enrolled_template,
)
from sdbox.smartcard.virtual.schsm import ScHsmCard
from sdbox.smartcard.virtual.sensor import ENROLLED, Report, Sensor
from sdbox.smartcard.virtual.yubikey_bio import YubiKeyBio


@dataclass(frozen=True, slots=True, repr=False)
class Parts:
    """What a card is made of. No `repr`: it holds a PIN and keys (S8)."""

    serial: str
    containers: Sequence[FilledContainer]
    pin: bytes
    sensor: Sensor
    report: Report
    root: Holder = field(default_factory=untrusted_root)  # of device certificates
    finger: str = ENROLLED  # whose finger is on a card that compares; "" for nobody's yet


def _sc_hsm_bio(parts: Parts) -> Blockable:
    parts.sensor.enrolled = parts.finger or None
    return ScHsmCard(parts.serial, parts.containers, parts.sensor, parts.report)


def _goid(parts: Parts) -> Blockable:
    parts.sensor.enrolled = parts.finger or None
    return GoidCard(parts.serial, parts.containers, parts.sensor, parts.report, parts.root)


def _piv(parts: Parts) -> Blockable:
    return PivCard(parts.serial, parts.containers, {PIN: PinReference(parts.pin)}, parts.report)


def _piv_occ(parts: Parts) -> Blockable:
    template = enrolled_template(parts.finger) if parts.finger else None
    references: dict[int, Reference] = {PRIMARY_FINGER: FingerReference(template), PIN: PinReference(parts.pin)}
    return PivCard(parts.serial, parts.containers, references, parts.report, atr=OCC_ATR)


def _gids(parts: Parts) -> Blockable:
    return GidsCard(parts.serial, parts.containers, parts.pin, parts.report)


def _ias_ecc(parts: Parts) -> Blockable:
    return IasEccCard(parts.serial, parts.containers, parts.pin, parts.report)


def _isoapplet(parts: Parts) -> Blockable:
    return IsoAppletCard(parts.serial, parts.containers, parts.pin, parts.report)


def _myeid(parts: Parts) -> Blockable:
    return MyEidCard(parts.serial, parts.containers, parts.pin, parts.report)


def _openpgp(parts: Parts) -> Blockable:
    return OpenPgpCard(parts.serial, parts.containers, parts.pin, parts.report)


def _yubikey_bio(parts: Parts) -> Blockable:
    return YubiKeyBio(parts.serial, parts.containers, parts.pin, parts.sensor, parts.report)


MODELS: Final[Mapping[str, Callable[[Parts], Blockable]]] = {
    "gids": _gids,
    "goid": _goid,
    "ias-ecc": _ias_ecc,
    "isoapplet": _isoapplet,
    "myeid": _myeid,
    "openpgp": _openpgp,
    "piv": _piv,
    "piv-occ": _piv_occ,
    "sc-hsm-bio": _sc_hsm_bio,
    "yubikey-bio": _yubikey_bio,
}
