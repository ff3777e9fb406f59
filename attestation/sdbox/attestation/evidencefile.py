"""EVIDENCE.json: a piece of evidence with what it must be bound to, for `sdbox verify` and for records."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from sdbox.boot.pcr import PCR_COUNT, Bank
from sdbox.protocol.contexts import NONCE_SIZE
from sdbox.protocol.values import BoxId, Evidence


class EvidenceFormatError(Exception):
    """The file is not an EVIDENCE.json."""


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields as written: `bytes` are base64 in JSON, the others hex."""

    attest: bytes
    signature: bytes
    ak_public: bytes
    eventlog: bytes
    nonce: str
    exporter: str
    pcrs: dict[str, dict[str, str]]
    box_id: str


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """Evidence, and the nonce, exporter and box that the verifier had in mind."""

    evidence: Evidence
    nonce: bytes = field(repr=False)
    exporter: bytes = field(repr=False)
    box_id: BoxId


def read_evidence(data: bytes) -> EvidenceFile:
    """Parse EVIDENCE.json; EvidenceFormatError, naming the field, if it is malformed."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceFormatError(str(error)) from error
    attested = document.attest, document.signature, document.ak_public, document.eventlog
    nonce, exporter = _sized("nonce", document.nonce), _sized("exporter", document.exporter)
    try:
        box_id = BoxId.parse(document.box_id)
    except ValueError as error:
        raise EvidenceFormatError("box_id is not a canonical UUID") from error
    return EvidenceFile(Evidence(*attested, pcrs=_pcrs(document.pcrs)), nonce, exporter, box_id)


def write_evidence(file: EvidenceFile) -> bytes:
    """Return the EVIDENCE.json of `file`."""
    e = file.evidence
    pcrs = {Bank.SHA256.value: {str(index): value.hex() for index, value in sorted(e.pcrs.items())}}
    rest = {"nonce": file.nonce.hex(), "exporter": file.exporter.hex(), "pcrs": pcrs, "box_id": str(file.box_id)}
    attested = {"attest": e.attest, "signature": e.signature, "ak_public": e.ak_public, "eventlog": e.event_log}
    return msgspec.json.format(msgspec.json.encode(attested | rest), indent=2) + b"\n"


def _sized(name: str, text: str) -> bytes:
    value = _hex(name, text)
    if len(value) != NONCE_SIZE:
        raise EvidenceFormatError(f"{name} has {len(value)} bytes, must have {NONCE_SIZE}")
    return value


def _pcrs(banks: dict[str, dict[str, str]]) -> dict[int, bytes]:
    if set(banks) != {Bank.SHA256}:
        raise EvidenceFormatError("pcrs must have exactly one bank, sha256")
    values = {}
    for index, text in banks[Bank.SHA256].items():
        if not (index.isascii() and index.isdigit() and str(int(index[:4])) == index and int(index) < PCR_COUNT):
            raise EvidenceFormatError(f"pcrs: {index!r} is not a PCR index")
        values[int(index)] = _hex(f"PCR {index}", text)
    return values


def _hex(name: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise EvidenceFormatError(f"{name} is not hex") from error
