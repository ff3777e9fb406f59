"""Whether a TPM may be enrolled: its endorsement certificate, chain and the factory's inventory (checklist 1 and 2)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.attestation.codes import failure
from sdbox.attestation.credential import EkPublicKey
from sdbox.attestation.endorsement import Anchors, certificate_failures, inventory_failures, kind_failures
from sdbox.attestation.verdict import Failure
from sdbox.gateway.config import ConfigError
from sdbox.protocol.values import BoxId


class Enrolling:
    """What a site asks of a TPM before it is let in. Without roots and inventory: nothing (a development bench)."""

    def __init__(self, roots: Path | None, inventory: Path | None) -> None:
        """Read a folder of PEM certificates, and the factory's JSON of box UUID to SHA-256 (hex) of its EK.

        Self-signed certificates are the pinned roots, the others lie between. ConfigError if a file is unusable.
        """
        try:
            self._anchors = read_anchors(roots) if roots else None
            self._noted = msgspec.json.decode(inventory.read_bytes(), type=dict[str, str]) if inventory else None
        except (OSError, ValueError) as error:
            raise ConfigError(f"TPM roots or inventory: {error}") from error

    def failures(self, box_id: BoxId, ek: EkPublicKey, certificate: bytes | None) -> Iterator[Failure]:
        """Yield what speaks against this TPM for this box; `certificate` is PEM or DER."""
        yield from kind_failures(ek)
        if self._anchors is not None:
            if certificate is None:
                yield failure("ek-chain", "no endorsement certificate was given")
            else:
                yield from certificate_failures(_der(certificate), ek, self._anchors, dt.datetime.now(dt.UTC))
        if self._noted is not None:
            yield from inventory_failures(ek, self._noted.get(str(box_id), ""))


def read_anchors(folder: Path) -> Anchors:
    """Read all certificates of a folder's .pem files. ValueError if one is unreadable, or none is a root."""
    found = [one for path in sorted(folder.glob("*.pem")) for one in x509.load_pem_x509_certificates(path.read_bytes())]
    roots = [one for one in found if one.issuer == one.subject]
    if not roots:
        raise ValueError(f"{folder}: no root certificate")
    return Anchors(roots, [one for one in found if one not in roots])


def _der(certificate: bytes) -> bytes:
    """A PEM that can not be read stays as it is: it is malformed as a certificate too."""
    if not certificate.startswith(b"-----BEGIN"):
        return certificate
    try:
        return x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    except (ValueError, x509.InvalidVersion):
        return certificate
