"""Whether a TPM may be enrolled: its endorsement certificate, chain and the factory's inventory (checklist 1 and 2)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.attestation.codes import failure
from sdbox.attestation.credential import EkPublicKey
from sdbox.attestation.endorsement import certificate_failures, inventory_failures, kind_failures, template_failures
from sdbox.attestation.factory import FactoryError, read_inventory, read_record
from sdbox.attestation.roots import Bundle, BundleError
from sdbox.attestation.vendorcert import load_vendor_certificates
from sdbox.attestation.verdict import Failure
from sdbox.gateway.config import ConfigError
from sdbox.protocol.values import BoxId


@dataclass(frozen=True, slots=True)
class Candidate:
    """A box that is to be enrolled. `certificate` is PEM or DER; `area` is the EK's TPMT_PUBLIC where it is known."""

    box_id: BoxId
    ek: EkPublicKey
    certificate: bytes | None = None
    area: bytes | None = None

    @property
    def pem(self) -> str:
        """The key as the inventory keeps it."""
        return self.ek.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def recorded_candidate(data: bytes) -> Candidate:
    """Return the box of a factory's record. ValueError if it is none."""
    record = read_record(data)
    return Candidate(record.box, record.key(), record.ek_certificate, record.ek_public)


class Enrolling:
    """What a site asks of a TPM before it is let in. A development bench may have neither roots nor inventory."""

    def __init__(self, roots: Path | None, inventory: Path | None, *, development: bool = False) -> None:
        """Read the vendors' bundle (`sdbox roots`) and the factory's inventory (`sdbox factory`).

        ConfigError if one is unusable, or if a software TPM's maker is in the bundle without `development`.
        """
        try:
            bundle = Bundle(roots) if roots else None
            self._anchors = bundle.anchors() if bundle else None
            self._noted = read_inventory(inventory) if inventory else None
        except (BundleError, FactoryError) as error:
            raise ConfigError(f"TPM roots or inventory: {error}") from error
        if bundle is not None and bundle.has_development and not development:
            raise ConfigError("TPM roots: the maker of software TPMs is among them, for development only")

    def failures(self, candidate: Candidate) -> Iterator[Failure]:
        """Yield what speaks against this TPM for this box."""
        ek, certificate = candidate.ek, candidate.certificate
        yield from kind_failures(ek) if candidate.area is None else template_failures(candidate.area)
        if self._anchors is not None:
            if certificate is None:
                yield failure("ek-chain", "no endorsement certificate was given")
            else:
                yield from certificate_failures(_der(certificate), ek, self._anchors, dt.datetime.now(dt.UTC))
        if self._noted is not None:
            yield from inventory_failures(ek, self._noted.get(str(candidate.box_id), ""))


def _der(certificate: bytes) -> bytes:
    """A PEM that can not be read stays as it is: it is malformed as a certificate too."""
    if not certificate.startswith(b"-----BEGIN"):
        return certificate
    try:
        return load_vendor_certificates(certificate)[0].der
    except (ValueError, IndexError):
        return certificate
