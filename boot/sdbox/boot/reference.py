"""Reference values: what an honest box measures, computed when its image is built (RFC 9334, section 8.3)."""

from __future__ import annotations

from pathlib import Path

import msgspec


class ReferenceValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of reference.json. PCR values are hex, keyed by bank name and decimal PCR index."""

    version: int
    image_version: str
    profile: str
    uki_sha256: str
    root_hash: str
    pcr_selection: tuple[int, ...]
    pcrs: dict[str, dict[str, str]]

    def expected(self) -> dict[int, bytes]:
        """Return the SHA-256 bank as index to 32 bytes."""
        return {int(index): bytes.fromhex(value) for index, value in self.pcrs["sha256"].items()}


class SecureBootKeys(msgspec.Struct, frozen=True):
    """The Secure Boot certificates (DER) as virt-fw-vars enrols them, and the owner GUID of its signature lists."""

    pk: bytes
    kek: bytes
    db: bytes
    owner: str


def compute_reference(
    uki: Path, keys: SecureBootKeys, *, image_version: str, profile: str, phases: tuple[str, ...] = ()
) -> ReferenceValues:
    """Return the reference values of a box that boots `uki` directly from firmware with `keys` enrolled."""
    raise NotImplementedError


def write_reference(reference: ReferenceValues, path: Path) -> None:
    """Write reference.json, indented, byte-identical for equal values."""
    raise NotImplementedError


def read_reference(data: bytes) -> ReferenceValues:
    """Parse reference.json; ReferenceError if it is malformed or contradicts itself."""
    raise NotImplementedError
