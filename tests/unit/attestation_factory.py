"""Evidence made to measure by an attestation key in software: every part can be bent before it is signed."""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sdbox.attestation.appraisal import Expected
from sdbox.attestation.checks import qualified_name
from sdbox.attestation.structures import name_of
from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.grammar import RULES
from sdbox.boot.measurement import Measurement
from sdbox.boot.microcode import Microcode, encode_microcode
from sdbox.boot.pcr import Bank, reset_value
from sdbox.boot.reference import ReferenceValues
from sdbox.boot.replay import replay
from sdbox.boot.secureboot import SecureBootKeys, signature_list, variable_event
from sdbox.protocol.contexts import qualifying_data
from sdbox.protocol.values import BoxId, Evidence
from tests.unit.boot_log_factory import Record, agile_log

KEY = ec.derive_private_key(0x5D80C5, ec.SECP256R1())
NONCE, EXPORTER = b"n" * 32, b"e" * 32
BOX = BoxId(uuid.UUID("12345678-1234-1234-1234-123456789abc"))
AK_ATTRIBUTES = 0x00050472  # fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign
SHA256, ECDSA = 0x000B, 0x0018
PCRS = (4, 5, 7, 11, 12, 13, 15)
TPM_FIRMWARE = 0x2019102300163636
ACTION, SEPARATOR, CONFIG, AUTHORITY, APPLICATION, IPL = 0x80000007, 4, 0x80000001, 0x800000E0, 0x80000003, 13
CPU_MICROCODE = 9

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
X509, SHA256_LIST = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072"), uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
OWNER = uuid.UUID(int=1)
KEYS = SecureBootKeys(b"pk", b"kek", b"db", str(OWNER))
REVOKED = hashlib.sha256(b"a revoked loader").digest()


def variable(name: str, value: bytes) -> Record:
    """Return the measurement of a Secure Boot variable."""
    vendor = DATABASE if name.startswith("db") else GLOBAL
    return Record(7, CONFIG, variable_event(vendor, name, value))


def certificates(content: bytes) -> bytes:
    return signature_list(X509, OWNER, content)


def revocations(*digests: bytes) -> bytes:
    """Return a dbx of one list per hash."""
    return b"".join(signature_list(SHA256_LIST, OWNER, digest) for digest in digests)


def microcode(processor: int, revision: int) -> Record:
    """Return the initrd's measurement of the processor."""
    return Record(15, CPU_MICROCODE, encode_microcode(Microcode(processor, revision)))


NAMED = (
    ("", Record(0, 8, b"firmware 1")),
    ("", Record(0, SEPARATOR, bytes(4))),
    ("", Record(2, SEPARATOR, bytes(4))),
    ("variable SecureBoot", variable("SecureBoot", b"\x01")),
    ("variable PK", variable("PK", certificates(b"pk"))),
    ("variable KEK", variable("KEK", certificates(b"kek"))),
    ("variable db", variable("db", certificates(b"db"))),
    ("variable dbx", variable("dbx", revocations(REVOKED))),
    ("separator", Record(7, SEPARATOR, bytes(4))),
    ("boot attempt", Record(4, ACTION, b"Calling EFI Application from Boot Option")),
    ("separator", Record(4, SEPARATOR, bytes(4))),
    ("", Record(5, SEPARATOR, bytes(4))),
    ("authority db", Record(7, AUTHORITY, variable_event(DATABASE, "db", OWNER.bytes_le + b"db"))),
    ("", Record(5, 0x80000006, b"partitions")),
    ("UKI", Record(4, APPLICATION, b"path of the UKI", b"\x44" * 32)),
    ("name .linux", Record(11, IPL, b".linux", b"\x11" * 32)),
    ("section .linux", Record(11, IPL, b".linux", b"\x12" * 32)),
    ("name .cmdline", Record(11, IPL, b".cmdline", b"\x13" * 32)),
    ("section .cmdline", Record(11, IPL, b".cmdline", b"\x14" * 32)),
    ("leaving", Record(5, ACTION, b"Exit Boot Services Invocation")),
    ("left", Record(5, ACTION, b"Exit Boot Services Returned with Success")),
    ("microcode", microcode(0x306A9, 0x21)),
    ("phase leave-initrd", Record(11, IPL, b"leave-initrd")),
)
RECORDS = tuple(record for _, record in NAMED)
LOG = agile_log(*RECORDS)


def values_of(log: bytes, pcrs: Iterable[int] = PCRS) -> dict[int, bytes]:
    """Return what a TPM holds after the boot of `log`."""
    replayed = replay(parse_event_log(log)).get(Bank.SHA256, {})
    return {index: replayed.get(index, reset_value(Bank.SHA256, index)) for index in pcrs}


VALUES = values_of(LOG)


def without(*places: int) -> tuple[Record, ...]:
    return tuple(record for place, record in enumerate(RECORDS) if place not in places)


def place_of(name: str, nth: int = 0) -> int:
    """Return where the `nth` record named `name` is."""
    return [place for place, (known, _) in enumerate(NAMED) if known == name][nth]


def changed(name: str, record: Record, nth: int = 0) -> tuple[Record, ...]:
    """Return RECORDS with `record` instead of the one named."""
    place = place_of(name, nth)
    return (*RECORDS[:place], record, *RECORDS[place + 1 :])


def agile_record(number: int) -> bytes:
    """Return one more record, of a PCR that nobody quotes."""
    return agile_log(Record(14, IPL, b"%d" % number))[len(agile_log()) :]


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


def sign(attest: bytes, scheme: tuple[int, int] = (ECDSA, SHA256)) -> bytes:
    """Return the TPMT_SIGNATURE of KEY: labelled with `scheme`, always made with SHA-256."""
    r, s = decode_dss_signature(KEY.sign(attest, ec.ECDSA(hashes.SHA256())))
    return struct.pack(">HH", *scheme) + sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forge:
    """An honest box's evidence, part by part: what is None follows from the rest, what is given is bent."""

    log: bytes = LOG
    quoted: tuple[int, ...] = PCRS
    public: bytes = ak_public()
    nonce: bytes = NONCE
    magic: int = 0xFF544347
    kind: int = 0x8018
    signer: bytes | None = None
    qualifying: bytes | None = None
    clock: tuple[int, int, int, int] = (1000, 5, 1, 1)
    selections: tuple[bytes, ...] | None = None
    values: Mapping[int, bytes] | None = None  # what the TPM holds
    shown: Mapping[int, bytes] | None = None  # what the box says it holds
    pcr_digest: bytes | None = None
    tail: bytes = b""
    scheme: tuple[int, int] = (ECDSA, SHA256)

    def held(self) -> dict[int, bytes]:
        return dict(self.values) if self.values is not None else values_of(self.log, self.quoted)

    def attest(self) -> bytes:
        """Return the TPMS_ATTEST."""
        signer = qualified_name(name_of(self.public)) if self.signer is None else self.signer
        qualifying = self.qualifying or qualifying_data(self.nonce, EXPORTER, BOX.bytes, self.log)
        selections = (selection(*self.quoted),) if self.selections is None else self.selections
        digest = digest_of(self.held()) if self.pcr_digest is None else self.pcr_digest
        head = struct.pack(">IH", self.magic, self.kind) + sized(signer) + sized(qualifying)
        encoded = struct.pack(">I", len(selections)) + b"".join(selections)
        return head + struct.pack(">QIIBQ", *self.clock, TPM_FIRMWARE) + encoded + sized(digest) + self.tail

    def evidence(self) -> Evidence:
        """Return the evidence, signed."""
        attest = self.attest()
        shown = self.held() if self.shown is None else self.shown
        return Evidence(attest, sign(attest, self.scheme), self.public, self.log, dict(shown))


def evidence() -> Evidence:
    """Return evidence that is accepted."""
    return Forge().evidence()


def reference(
    values: Mapping[int, bytes] = VALUES, pcrs: tuple[int, ...] = PCRS, *, rules: int = RULES
) -> ReferenceValues:
    """Return the reference values of the box; with `rules` 0 the PCR values only."""
    advisory = tuple(sorted({5, 15} & set(pcrs)))
    named: dict[str, list[Measurement]] = {str(index): [] for index in pcrs if index not in advisory}
    for name, record in NAMED:
        if str(record.pcr) in named:
            digest = hashlib.sha256(record.data).digest() if record.digest is None else record.digest
            named[str(record.pcr)].append(Measurement(name, digest.hex()))
    expected_values = {str(index): values[index].hex() for index in pcrs if index not in advisory}
    events = {index: tuple(measured) for index, measured in named.items()} if rules else {}
    known = ReferenceValues(pcrs, {"sha256": expected_values}, image_version="7", uki_sha256="ab" * 32)
    return msgspec.structs.replace(known, events=events, advisory=advisory, rules=rules)


def expected() -> Expected:
    return Expected(NONCE, EXPORTER, BOX, reference(), ak_name=name_of(ak_public()))
