"""What the factory writes down of a box: its UUID, and the endorsement key of the TPM in it (checklist 1 to 3).

The record is one JSON file of one box; the inventory is one JSON file of all, box UUID to SHA-256 of the key's
SubjectPublicKeyInfo. Pure: no TPM library, so that the centre reads both.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sdbox.attestation.codes import failure
from sdbox.attestation.credential import EkPublicKey
from sdbox.attestation.endorsement import Anchors, certificate_failures, key_digest, template_failures
from sdbox.attestation.keys import public_key
from sdbox.attestation.structures import StructureError, parse_public
from sdbox.attestation.verdict import Failure
from sdbox.protocol.values import BoxId


class FactoryError(ValueError):
    """A record or an inventory is malformed, or they contradict each other. The text is one line."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One box, as it was read. Bytes are base64 in the file."""

    box_id: str
    serial: str  # the maker's, as printed on the case: for people
    ek_public: bytes  # TPMT_PUBLIC of the RSA-2048 EK
    ek_certificate: bytes | None  # DER as it is in NV, None if there is none
    read_at: str

    @property
    def box(self) -> BoxId:
        return BoxId.parse(self.box_id)

    def key(self) -> EkPublicKey:
        """Return the endorsement key. FactoryError if the public area holds none."""
        try:
            return public_key(parse_public(self.ek_public))
        except StructureError as error:
            raise FactoryError(f"endorsement key: {error}") from error


def read_record(data: bytes) -> Record:
    """Parse a record. FactoryError if it is none."""
    try:
        record = msgspec.json.decode(data, type=Record)
        BoxId.parse(record.box_id)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FactoryError(f"not a record of a box: {error}") from error
    record.key()
    return record


def write_record(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def record_failures(record: Record, anchors: Anchors, now: dt.datetime) -> Iterator[Failure]:
    """Yield what speaks against the TPM itself: rows 1 to 3."""
    yield from template_failures(record.ek_public)
    if record.ek_certificate is None:
        yield failure("ek-chain", "the TPM holds no endorsement certificate")
    else:
        yield from certificate_failures(record.ek_certificate, record.key(), anchors, now)


def read_inventory(path: Path) -> dict[str, str]:
    """Read box UUID to hash; an absent file is an empty inventory. FactoryError if it is malformed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise FactoryError(f"{path}: {error}") from error


def with_box(inventory: dict[str, str], record: Record, *, replace: bool = False) -> dict[str, str]:
    """Return the inventory with this box. FactoryError if the box is there with another TPM, or the TPM in another box.

    `replace`: an operator knows why the box has another TPM now.
    """
    box, key = str(record.box), key_digest(record.key())
    if inventory.get(box, key) != key and not replace:
        raise FactoryError(f"box {box} is on the inventory with another TPM")
    other = next((known for known, hashed in inventory.items() if hashed == key and known != box), None)
    if other is not None:
        raise FactoryError(f"the TPM of box {box} is on the inventory in box {other}")
    return {**inventory, box: key}
