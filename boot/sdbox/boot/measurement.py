"""One expected measurement: a name for people and the SHA-256 digest extended into the PCR."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from sdbox.boot.pcr import Bank, replay_digests


class Measurement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sha256` is hex, as in reference.json."""

    name: str
    sha256: str


def measure(name: str, data: bytes) -> Measurement:
    """Return the measurement of `data` itself."""
    return Measurement(name, hashlib.sha256(data).hexdigest())


def pcr_value(measurements: Iterable[Measurement]) -> bytes:
    """Return the SHA-256 PCR that started at zero and holds the measurements in order."""
    return replay_digests(Bank.SHA256, (bytes.fromhex(m.sha256) for m in measurements))


SEPARATOR = measure("separator", bytes(4))
