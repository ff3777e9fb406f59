"""Evidence made to measure by an attestation key in software: every part can be bent before it is signed."""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sdbox.attestation.appraisal import Expected
from sdbox.attestation.structures import name_of
from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.pcr import Bank
from sdbox.boot.reference import ReferenceValues
from sdbox.boot.replay import replay
from sdbox.protocol.contexts import qualifying_data
from sdbox.protocol.values import BoxId, Evidence
from tests.unit.boot_log_factory import Record, agile_log

KEY = ec.derive_private_key(0x5D80C5, ec.SECP256R1())
NONCE, EXPORTER = b"n" * 32, b"e" * 32
BOX = BoxId(uuid.UUID("12345678-1234-1234-1234-123456789abc"))
AK_ATTRIBUTES = 0x00050472  # fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign
RECORDS = (
    Record(4, 0x80000007, b"Calling EFI Application from Boot Option"),
    Record(4, 4, bytes(4)),
    Record(4, 0x80000003, b"path of the UKI", b"\x44" * 32),
    Record(7, 0x80000001, b"SecureBoot"),
    Record(7, 4, bytes(4)),
    Record(11, 13, b".linux", b"\x11" * 32),
)
LOG = agile_log(*RECORDS)
VALUES = replay(parse_event_log(LOG))[Bank.SHA256]
SHA256, ECDSA = 0x000B, 0x0018


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def ak_public(attributes: int = AK_ATTRIBUTES, scheme: tuple[int, int] = (ECDSA, SHA256)) -> bytes:
    """Return the TPMT_PUBLIC of KEY."""
    point = KEY.public_key().public_numbers()
    head = struct.pack(">HHIHH", 0x0023, SHA256, attributes, 0, 0x0010) + struct.pack(">4H", *scheme, 0x0003, 0x0010)
    return head + sized(point.x.to_bytes(32, "big")) + sized(point.y.to_bytes(32, "big"))


def selection(*pcrs: int, bank: int = SHA256) -> bytes:
    """Return one TPMS_PCR_SELECTION."""
    return struct.pack(">HB", bank, 3) + sum(1 << index for index in pcrs).to_bytes(3, "little")


def digest_of(values: Mapping[int, bytes]) -> bytes:
    return hashlib.sha256(b"".join(values[index] for index in sorted(values))).digest()


@dataclass(frozen=True, slots=True)
class Attest:
    """The fields of a TPMS_ATTEST; the defaults are those of an honest quote."""

    magic: int = 0xFF544347
    kind: int = 0x8018
    qualifying: bytes = field(default=qualifying_data(NONCE, EXPORTER, BOX.bytes, LOG))
    clock: tuple[int, int, int, int] = (1000, 5, 1, 1)
    selections: tuple[bytes, ...] = (selection(4, 7, 11),)
    pcr_digest: bytes = field(default=digest_of(VALUES))
    tail: bytes = b""

    def encode(self) -> bytes:
        head = struct.pack(">IH", self.magic, self.kind) + sized(b"\0\x0b" + bytes(32)) + sized(self.qualifying)
        selections = struct.pack(">I", len(self.selections)) + b"".join(self.selections)
        return head + struct.pack(">QIIBQ", *self.clock, 1) + selections + sized(self.pcr_digest) + self.tail


def sign(attest: bytes, scheme: tuple[int, int] = (ECDSA, SHA256)) -> bytes:
    """Return the TPMT_SIGNATURE of KEY: labelled with `scheme`, always made with SHA-256."""
    r, s = decode_dss_signature(KEY.sign(attest, ec.ECDSA(hashes.SHA256())))
    return struct.pack(">HH", *scheme) + sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))


def evidence(attest: Attest | None = None, log: bytes = LOG, pcrs: Mapping[int, bytes] = VALUES) -> Evidence:
    """Return signed evidence; without arguments it is accepted."""
    encoded = (attest or Attest()).encode()
    return Evidence(encoded, sign(encoded), ak_public(), log, dict(pcrs))


def evidence_for_log(log: bytes, values: Mapping[int, bytes] = VALUES) -> Evidence:
    """Return evidence whose quote is bound to another log."""
    bound = Attest(qualifying=qualifying_data(NONCE, EXPORTER, BOX.bytes, log), pcr_digest=digest_of(values))
    return evidence(bound, log, values)


def reference(values: Mapping[int, bytes] = VALUES, pcrs: tuple[int, ...] = (4, 7, 11)) -> ReferenceValues:
    return ReferenceValues(pcrs, {"sha256": {str(index): values[index].hex() for index in pcrs}})


def expected() -> Expected:
    return Expected(NONCE, EXPORTER, BOX, reference(), ak_name=name_of(ak_public()))
