"""Keylime's own check of the same quotes, where its package can be imported; it is no dependency.

    pip download --no-deps keylime && PYTHONPATH=keylime-VERSION-py3-none-any.whl sdbox bench attest

`checkquote` is the part of its verifier that has no database: signature, nonce, digest of the PCR values. It looks at
no event log, no counters, no reference values; the log goes to tpm2_eventlog there, which has its own row.
"""

from __future__ import annotations

import importlib
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.attestation.structures import Algorithm, parse_quote
from sdbox.bench.software_box import Ask, SoftwareBox

_BANKS, _DIGESTS, _LARGEST = 16, 8, 64  # of the C structures that tpm2_quote writes as they lie in memory

Question = tuple[bytes, bytes, bytes, bytes, bytes, str]
Check = Callable[[bytes, bytes, bytes, bytes, bytes, str], Any]


def find_checkquote() -> Check | None:
    """Return Keylime's function; None, and a line on stderr, if there is none."""
    try:
        module = importlib.import_module("keylime.tpm.tpm_util")
    except ImportError as error:
        print(f"no Keylime ({error}): its row is left out", file=sys.stderr)
        return None
    check: Check = module.checkquote
    return check


def questions(boxes: tuple[SoftwareBox, ...], asks: list[Ask]) -> list[Question]:
    """Return the arguments of `checkquote` for each box: key as PEM, nonce, signature, quote, PCR values, hash."""
    made = []
    for box, ask in zip(boxes, asks, strict=True):
        pem = box.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        evidence = ask.evidence
        nonce = parse_quote(evidence.attest).qualifying
        made.append((pem, nonce, evidence.signature, evidence.attest, _values(evidence.pcrs), "sha256"))
    return made


def _values(pcrs: dict[int, bytes]) -> bytes:
    """Return TPML_PCR_SELECTION and the TPML_DIGESTs as tpm2_quote writes them on a little-endian machine."""
    bits = sum(1 << index for index in pcrs).to_bytes(3, "little")
    selection = struct.pack("<HB3s2x", Algorithm.SHA256, 3, bits) + bytes(8) * (_BANKS - 1)
    lists = list(_lists([value for _, value in sorted(pcrs.items())]))
    return struct.pack("<I", 1) + selection + struct.pack("<I", len(lists)) + b"".join(lists)


def _lists(values: list[bytes]) -> Iterator[bytes]:
    for start in range(0, len(values), _DIGESTS):
        part = values[start : start + _DIGESTS]
        sized = [struct.pack("<H", len(value)) + value.ljust(_LARGEST, b"\0") for value in part]
        empty = bytes(2 + _LARGEST) * (_DIGESTS - len(part))
        yield struct.pack("<I", len(part)) + b"".join(sized) + empty
