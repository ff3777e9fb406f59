"""The TPM structures of a piece of evidence, parsed strictly: one encoding, no byte left over (TPM 2.0 part 2).

No TPM library: the centre must not share a parser, and its bugs, with the box.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import TypeVar

from sdbox.attestation.verdict import Clock
from sdbox.boot.pcr import ALGORITHM_IDS, Bank
from sdbox.boot.reader import Reader, Truncated

MAX_STRUCTURE = 2048
GENERATED_VALUE = 0xFF544347  # TPM_GENERATED_VALUE, part 2, 6.2
ATTEST_QUOTE = 0x8018  # TPM_ST_ATTEST_QUOTE, 6.9
_MAX_SELECTIONS = 16  # one per bank; TPMs have far fewer (TPM2_NUM_PCR_BANKS, 16 in the reference code)
_MAX_SELECT = 4
_T = TypeVar("_T")
# A quote by a key with a SHA-256 Name, with 32 bytes of qualifying data and one selection of three bytes.
_QUOTE = struct.Struct(">IHH34sH32sQIIBQIHB3sH32s")
_QUOTE_SHAPE = ((GENERATED_VALUE, ATTEST_QUOTE, 34), 32, 1, 3, 32)
_SIGNATURE = struct.Struct(">HHH32sH32s")


class StructureError(Exception):
    """The bytes are not exactly one structure of the kind asked for."""


class Algorithm(IntEnum):
    """TPM_ALG_ID, those that a key for signing or endorsement may name (TCG Algorithm Registry, table 3)."""

    RSA = 0x0001
    AES = 0x0006
    SHA256 = 0x000B
    SHA384 = 0x000C
    NULL = 0x0010
    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018
    ECC = 0x0023


class Attributes(IntFlag):
    """TPMA_OBJECT, part 2, 8.3."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


@dataclass(frozen=True, slots=True)
class Quote:
    """TPMS_ATTEST with a TPMS_QUOTE_INFO (part 2, 10.12). `selections` is as signed: bank id and ascending indices."""

    signer: bytes
    qualifying: bytes
    clock: Clock
    firmware: int
    selections: tuple[tuple[int, tuple[int, ...]], ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """TPMT_SIGNATURE (11.3.4). `value` is one number for RSA, r and s for ECDSA."""

    scheme: int
    hash: int
    value: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Public:
    """TPMT_PUBLIC (12.2.4) of an RSA or ECC key. `size` is the RSA key size in bits, or the TPM_ECC_CURVE."""

    kind: int
    name_algorithm: int
    attributes: Attributes
    policy: bytes
    scheme: tuple[int, int]
    size: int
    exponent: int
    unique: tuple[bytes, ...]


class NotAQuote(StructureError):
    """An attestation structure, or bytes made to look like one, but no quote (checklist 9)."""


def parse_quote(data: bytes) -> Quote:
    """Parse a TPMS_ATTEST; NotAQuote if magic or type differ, StructureError if it is malformed."""
    return _usual_quote(data) or _whole(data, _quote)


def parse_signature(data: bytes) -> Signature:
    """Parse a TPMT_SIGNATURE of scheme ECDSA, RSASSA or RSAPSS."""
    return _usual_signature(data) or _whole(data, _signature)


def parse_public(data: bytes) -> Public:
    """Parse a TPMT_PUBLIC (without the size of a TPM2B_PUBLIC) of type RSA or ECC."""
    return _whole(data, _public)


def name_of(public: bytes) -> bytes:
    """Return the Name of a TPMT_PUBLIC: algorithm and digest (part 1, 16). StructureError unless SHA-256 or -384."""
    bank = ALGORITHM_IDS.get(int.from_bytes(public[2:4], "big"))
    if bank not in {Bank.SHA256, Bank.SHA384}:
        raise StructureError("name algorithm is neither SHA-256 nor SHA-384")
    return public[2:4] + hashlib.new(bank, public).digest()


def _usual_quote(data: bytes) -> Quote | None:
    """Read the one shape that nearly every quote has, in one step; None for any other, which the long way judges."""
    if len(data) != _QUOTE.size:
        return None
    fields = _QUOTE.unpack(data)
    if (fields[:3], fields[4], fields[11], fields[13], fields[15]) != _QUOTE_SHAPE or fields[9] > 1:
        return None
    clock = Clock(fields[6], fields[7], fields[8], bool(fields[9]))
    return Quote(fields[3], fields[5], clock, fields[10], ((fields[12], _indices(fields[14])),), fields[16])


def _usual_signature(data: bytes) -> Signature | None:
    """As `_usual_quote`: ECDSA with two numbers of 32 bytes."""
    if len(data) != _SIGNATURE.size:
        return None
    scheme, hash_id, size_r, r, size_s, s = _SIGNATURE.unpack(data)
    return Signature(scheme, hash_id, (r, s)) if (scheme, size_r, size_s) == (Algorithm.ECDSA, 32, 32) else None


@lru_cache(maxsize=256)
def _indices(bits: bytes) -> tuple[int, ...]:
    """Return the PCRs of a bitmap."""
    number = int.from_bytes(bits, "little")
    return tuple(index for index in range(8 * len(bits)) if number >> index & 1)


def _whole(data: bytes, read: Callable[[Reader], _T]) -> _T:
    if len(data) > MAX_STRUCTURE:
        raise StructureError(f"{len(data)} bytes, at most {MAX_STRUCTURE} are read")
    reader = Reader(data, "big")
    try:
        value = read(reader)
    except Truncated as error:
        raise StructureError(str(error)) from error
    if reader.left:
        raise StructureError(f"{reader.left} bytes left over")
    return value


def _quote(reader: Reader) -> Quote:
    if (reader.u32("magic"), reader.u16("type")) != (GENERATED_VALUE, ATTEST_QUOTE):
        raise NotAQuote("magic or type is not a quote's")
    signer, qualifying = _sized(reader, "signer"), _sized(reader, "qualifying data")
    numbers = reader.u64("clock"), reader.u32("reset count"), reader.u32("restart count")
    clock = Clock(*numbers, safe=_yes_no(reader))
    firmware = reader.u64("firmware version")
    count = reader.u32("number of selections")
    if count > _MAX_SELECTIONS:
        raise StructureError(f"{count} PCR selections")
    selections = tuple(_selection(reader) for _ in range(count))
    return Quote(signer, qualifying, clock, firmware, selections, _sized(reader, "PCR digest"))


def _selection(reader: Reader) -> tuple[int, tuple[int, ...]]:
    bank, size = reader.u16("bank"), reader.u8("select size")
    if size > _MAX_SELECT:
        raise StructureError(f"PCR selection of {size} bytes")
    return bank, _indices(reader.take(size, "PCR selection"))


def _signature(reader: Reader) -> Signature:
    scheme = reader.u16("signature scheme")
    if scheme not in {Algorithm.ECDSA, Algorithm.RSASSA, Algorithm.RSAPSS}:
        raise StructureError(f"signature scheme 0x{scheme:04X}")
    hash_id = reader.u16("signature hash")
    count = 2 if scheme == Algorithm.ECDSA else 1
    return Signature(scheme, hash_id, tuple(_sized(reader, "signature") for _ in range(count)))


def _public(reader: Reader) -> Public:
    kind, name_algorithm = reader.u16("key type"), reader.u16("name algorithm")
    if kind not in {Algorithm.RSA, Algorithm.ECC}:
        raise StructureError(f"key type 0x{kind:04X}")
    attributes, policy = Attributes(reader.u32("attributes")), _sized(reader, "policy")
    if _optional(reader, "symmetric")[0] != Algorithm.NULL:
        reader.u16("symmetric mode")
    scheme = _optional(reader, "scheme")
    size, exponent = reader.u16("key bits or curve"), 0
    if kind == Algorithm.RSA:
        exponent = reader.u32("exponent")
    else:
        _optional(reader, "key derivation")
    count = 1 if kind == Algorithm.RSA else 2
    unique = tuple(_sized(reader, "public key") for _ in range(count))
    return Public(kind, name_algorithm, attributes, policy, scheme, size, exponent, unique)


def _optional(reader: Reader, what: str) -> tuple[int, int]:
    """An algorithm and its one detail (hash or key bits), which is absent for TPM_ALG_NULL."""
    algorithm = reader.u16(what)
    return algorithm, 0 if algorithm == Algorithm.NULL else reader.u16(f"{what} detail")


def _sized(reader: Reader, what: str) -> bytes:
    return reader.take(reader.u16(f"{what} size"), what)


def _yes_no(reader: Reader) -> bool:
    value = reader.u8("safe")
    if value > 1:
        raise StructureError(f"TPMI_YES_NO of {value}")
    return bool(value)
