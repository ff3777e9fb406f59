"""`sdbox factory`: read a box's endorsement key on the box, add it to the inventory on the factory's machine."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from sdbox.attestation.factory import (
    FactoryError,
    read_inventory,
    read_record,
    record_failures,
    with_box,
    write_record,
)
from sdbox.attestation.roots import Bundle, BundleError
from sdbox.protocol.reasons import Refusal
from sdbox.protocol.values import BoxId

_REFUSED, _BAD_INPUT = 1, 2
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)
_DMI = Path("/sys/class/dmi/id")


@click.group()
def factory() -> None:
    """The factory's inventory: which TPM is in which box. Example: sdbox factory read --output box.json."""


@factory.command(epilog="Example: sdbox factory read --output box.json")
@click.option("--output", required=True, type=_NEW, help="Where the record is written.")
@click.option("--tcti", help="The TPM; the machine's own by default.")
@click.option("--box-id", help="UUID; the machine's own (SMBIOS) by default.")
@click.option("--serial", help="The serial number on the case; SMBIOS's by default.")
def read(*, output: Path, tcti: str | None, box_id: str | None, serial: str | None) -> None:
    """Read UUID, serial number and endorsement key of the box this runs on, as root, from a factory's own medium.

    The TPM proves that it holds the key. Exit 1 if it can't, or does not answer; 2 if the box has no usable UUID.
    """
    from sdbox.attestation.enrolment import read_box  # noqa: PLC0415 - `add` runs where there is no TPM library
    from sdbox.attestation.tpm import open_tpm  # noqa: PLC0415

    try:
        box = BoxId.parse((box_id or _dmi("product_uuid")).lower())
    except ValueError as error:
        _stop("read", f"this box has no usable UUID: {error}", _BAD_INPUT)
    try:
        with open_tpm(tcti) as tpm:
            record = read_box(tpm, box, serial if serial is not None else _dmi("product_serial"))
    except Refusal as refusal:
        _stop("read", str(refusal), _REFUSED)
    output.write_bytes(write_record(record))
    certificate = "with" if record.ek_certificate else "without"
    click.echo(f"box {box}: endorsement key {certificate} certificate, written to {output}", err=True)


@factory.command(epilog="Example: sdbox factory add box.json --roots vendors --inventory inventory.json")
@click.argument("records", type=_FILE, nargs=-1, required=True)
@click.option("--roots", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--inventory", required=True, type=_NEW, help="Made if it is not there.")
@click.option("--replace", is_flag=True, help="The box has another TPM now, and you know why.")
def add(*, records: tuple[Path, ...], roots: Path, inventory: Path, replace: bool) -> None:
    """Check RECORDS against the vendors' roots and add them to the inventory: all of them, or none.

    Exit 1, with the check that failed, if one is refused; 2 if a file is malformed.
    """
    now = dt.datetime.now(dt.UTC)
    try:
        anchors = Bundle(roots).anchors()
        known = read_inventory(inventory)
        read_records = [read_record(path.read_bytes()) for path in records]
    except (BundleError, FactoryError) as error:
        _stop("add", str(error), _BAD_INPUT)
    for path, record in zip(records, read_records, strict=True):
        found = list(record_failures(record, anchors, now))
        if found:
            _stop("add", "; ".join(f"{path}: check {one.check} {one.code}: {one.text}" for one in found), _REFUSED)
        try:
            known = with_box(known, record, replace=replace)
        except FactoryError as error:
            _stop("add", f"{path}: check 2 ek-inventory: {error}", _REFUSED)
    partial = inventory.with_name(f"{inventory.name}.part")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(known, order="sorted"), indent=1) + b"\n")
    partial.replace(inventory)  # a reader sees the old inventory or the new one
    click.echo(f"{len(known)} boxes on the inventory", err=True)


def _dmi(name: str) -> str:
    try:
        return (_DMI / name).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _stop(command: str, text: str, code: int) -> NoReturn:
    click.echo(f"sdbox factory {command}: {text}".replace("\n", " "), err=True)
    sys.exit(code)
