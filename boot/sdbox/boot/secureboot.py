"""What firmware with our Secure Boot keys measures into PCR 7 (PC Client Platform Firmware Profile 1.06, 3.3.4.8).

The signature lists are encoded as virt-fw-vars writes them into OVMF's variables: one list per certificate, and a dbx
that holds the SHA-256 of nothing, because firmware does not measure an absent one the same everywhere.
"""

from __future__ import annotations

import hashlib
import ssl
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sdbox.boot.measurement import SEPARATOR, Measurement, measure

_GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")  # EFI_GLOBAL_VARIABLE
_SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")  # EFI_IMAGE_SECURITY_DATABASE_GUID
_CERT_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
CERT_SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
_DUMMY_OWNER = uuid.UUID("a0baa8a3-041d-48a8-bc87-c36d121b5e3d")  # OVMF's EnrollDefaultKeys, which virt-fw-vars copies


class SecureBootKeys(msgspec.Struct, frozen=True):
    """The enrolled certificates (DER) and the owner GUID of their signature lists. `dbx` None: virt-fw-vars' dummy."""

    pk: bytes
    kek: bytes
    db: bytes
    owner: str
    dbx: bytes | None = None


def load_keys(folder: Path, owner: str) -> SecureBootKeys:
    """Read PK.crt, KEK.crt and db.crt (PEM) of `folder`."""
    pk, kek, db = (ssl.PEM_cert_to_DER_cert((folder / f"{name}.crt").read_text()) for name in ("PK", "KEK", "db"))
    return SecureBootKeys(pk, kek, db, owner)


def signature_list(kind: uuid.UUID, owner: uuid.UUID, signature: bytes) -> bytes:
    """Return an EFI_SIGNATURE_LIST with one EFI_SIGNATURE_DATA (UEFI 2.10, 32.4.1)."""
    entry = owner.bytes_le + signature
    return kind.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def variable_event(vendor: uuid.UUID, name: str, value: bytes) -> bytes:
    """Return the UEFI_VARIABLE_DATA that is hashed and logged (10.2.6)."""
    return vendor.bytes_le + struct.pack("<QQ", len(name), len(value)) + name.encode("utf-16-le") + value


@dataclass(frozen=True, slots=True)
class Variable:
    """A UEFI variable as it was measured. Its name means something only together with its vendor."""

    vendor: uuid.UUID
    name: str
    value: bytes

    @property
    def is_standard(self) -> bool:
        """Return whether it is the specification's variable of this name (UEFI 2.10, 3.3 and 32.6.1)."""
        database = self.name in {"db", "dbx", "dbt", "dbr"}
        return self.vendor == (_SECURITY_DATABASE if database else _GLOBAL)


def parse_variable_event(data: bytes) -> Variable:
    """Return the variable of a UEFI_VARIABLE_DATA (10.2.6); ValueError if it is none, or has bytes left over."""
    if len(data) < 32:
        raise ValueError("shorter than a UEFI_VARIABLE_DATA")
    characters, size = struct.unpack_from("<QQ", data, 16)
    end = 32 + 2 * characters
    if end + size != len(data):
        raise ValueError("sizes do not add up")
    return Variable(uuid.UUID(bytes_le=data[:16]), data[32:end].decode("utf-16-le"), data[end:])


def signatures(value: bytes) -> set[tuple[uuid.UUID, bytes]]:
    """Return type and data (certificate, hash) of each signature of an EFI_SIGNATURE_LIST sequence.

    Firmware passes over a type that it does not know. ValueError if the sequence is malformed.
    """
    found, at = set[tuple[uuid.UUID, bytes]](), 0
    while at < len(value):
        if len(value) - at < 28:
            raise ValueError("a signature list is cut")
        size, header, each = struct.unpack_from("<III", value, at + 16)
        first, end = at + 28 + header, at + size
        if each <= 16 or not first <= end <= len(value) or (end - first) % each:
            raise ValueError("a signature list's sizes do not add up")
        kind = uuid.UUID(bytes_le=value[at : at + 16])
        found |= {(kind, value[place + 16 : place + each]) for place in range(first, end, each)}
        at = end
    return found


def measure_secure_boot(keys: SecureBootKeys) -> list[Measurement]:
    """Return the measurements into PCR 7 of a boot whose every image is signed by the db certificate itself."""
    owner = uuid.UUID(keys.owner)
    dummy = signature_list(CERT_SHA256, _DUMMY_OWNER, hashlib.sha256(b"").digest())
    values = (
        (_GLOBAL, "SecureBoot", b"\x01"),
        (_GLOBAL, "PK", signature_list(_CERT_X509, owner, keys.pk)),
        (_GLOBAL, "KEK", signature_list(_CERT_X509, owner, keys.kek)),
        (_SECURITY_DATABASE, "db", signature_list(_CERT_X509, owner, keys.db)),
        (_SECURITY_DATABASE, "dbx", dummy if keys.dbx is None else keys.dbx),
    )
    variables = [measure(f"variable {name}", variable_event(vendor, name, value)) for vendor, name, value in values]
    authority = variable_event(_SECURITY_DATABASE, "db", owner.bytes_le + keys.db)
    return [*variables, SEPARATOR, measure("authority db", authority)]
