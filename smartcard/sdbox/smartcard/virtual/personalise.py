"""What is written on an emulated card: one key pair and certificate per project, by a given card CA."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sdbox.protocol.values import PROJECT_URI

YEAR: Final = timedelta(days=365)
HOUR: Final = timedelta(hours=1)

CardKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Flaw(Enum):
    """What is wrong with a container."""

    NONE = "none"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    FOREIGN = "foreign"  # another CA of the same name
    WRONG_USAGE = "wrong-usage"  # its key may not sign
    LATE = "late"  # nothing is, but it is past half of its life
    OLDER = "older"  # nothing is, but another of the same project was issued after it
    ODD_LABEL = "odd-label"  # nothing is, but its label is Latin-1 where UTF-8 belongs
    TORN = "torn"  # only the first half of it was written


class KeyKind(Enum):
    """Kinds of keys that the emulated cards hold."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"


@dataclass(frozen=True, slots=True)
class Project:
    """A container to be made."""

    name: str
    flaw: Flaw = Flaw.NONE
    kind: KeyKind = KeyKind.P256


@dataclass(frozen=True, slots=True)
class FilledContainer:
    """A key pair and its certificate (DER), ready to be put on a card."""

    project: str
    key: CardKey
    certificate: bytes
    flaw: Flaw = Flaw.NONE

    @property
    def label(self) -> bytes:
        """What its files say that it is called."""
        name = f"{self.project}\xe9" if self.flaw is Flaw.ODD_LABEL else self.project
        return name.encode("latin-1" if self.flaw is Flaw.ODD_LABEL else "utf-8")


@dataclass(frozen=True, slots=True)
class Issuer:
    """The CA that signs the containers' certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read PEM files; ValueError if they are not an EC key and the certificate of it."""
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        issuer = x509.load_pem_x509_certificate(certificate.read_bytes())
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or issuer.public_key() != loaded.public_key():
            raise ValueError("the issuer's key must be an EC key that belongs to its certificate")
        return cls(issuer, loaded)

    @classmethod
    def create(cls, name: str = "SD-Box emulated card CA") -> Self:
        """Make a CA of its own that nothing trusts."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        now = datetime.now(UTC)
        builder = _builder(subject, subject, key.public_key(), (now - HOUR, now + YEAR))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    def impostor(self) -> Issuer:
        """Return another CA with this one's name: only the signature tells them apart."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Issuer(self.certificate, key)


def card_serial(variant: str, projects: Sequence[Project]) -> str:
    """Return the serial of a card: 8 digits, always the same for the same variant and projects."""
    text = "\0".join((variant, *(project.name for project in projects)))
    return f"{int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], 'big') % 10**8:08d}"


def make_key(kind: KeyKind) -> CardKey:
    """Make a key pair."""
    if kind is KeyKind.RSA2048:
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP384R1() if kind is KeyKind.P384 else ec.SECP256R1())


def fill_containers(projects: Sequence[Project], issuer: Issuer) -> tuple[FilledContainer, ...]:
    """Make key pairs and certificates for `projects`, in their order."""
    return tuple(_fill(project, issuer) for project in projects)


def _fill(project: Project, issuer: Issuer) -> FilledContainer:
    key = make_key(project.kind)
    signer = issuer.impostor() if project.flaw is Flaw.FOREIGN else issuer
    builder = _builder(_name(project.name), issuer.certificate.subject, key.public_key(), _validity(project.flaw))
    for extension, critical in _extensions(project, signer):
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    written = certificate[: len(certificate) // 2] if project.flaw is Flaw.TORN else certificate
    return FilledContainer(project.name, key, written, project.flaw)


def _extensions(project: Project, signer: Issuer) -> list[tuple[x509.ExtensionType, bool]]:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    never = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    usages = dict.fromkeys((*others, *never), False) | {"digital_signature": True}
    if project.flaw is Flaw.WRONG_USAGE:
        usages |= {"digital_signature": False, "key_agreement": True}
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(**usages), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(PROJECT_URI + project.name)]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False),
    ]


def _validity(flaw: Flaw) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    if flaw is Flaw.EXPIRED:
        return now - 2 * YEAR, now - HOUR
    if flaw is Flaw.NOT_YET_VALID:
        return now + YEAR, now + 2 * YEAR
    if flaw is Flaw.LATE:
        return now - YEAR, now + YEAR / 12
    if flaw is Flaw.OLDER:
        return now - YEAR, now + YEAR
    return now - 24 * HOUR, now + YEAR


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    validity: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )
