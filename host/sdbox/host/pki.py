"""The development keys and certificates: made once, kept outside the repository, never for production.

centre-ca  -> gateway (TLS server)         card-ca -> project certificates of the emulated cards
                                           card-root -> (CVC) device keys of emulated cards with secure messaging
ear        signs attestation results       PK, KEK, db, box-debug-db: UEFI Secure Boot (UEFI 2.10, 32.3)
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sdbox.host.places import state_folder
from sdbox.smartcard.virtual.cvc import Holder, certify, generate_key

GATEWAY_NAME = "gateway.sdbox.test"
LIFETIME = dt.timedelta(days=3650)
CLOCK_SLACK = dt.timedelta(days=1)
SECURE_BOOT_NAMES = ("PK", "KEK", "db", "box-debug-db")

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class DevelopmentPki:
    """The folder of the development keys, and the files in it by name."""

    folder: Path

    def certificate(self, name: str) -> Path:
        """Return the path of certificate `name` (PEM)."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the path of private key `name` (PEM, PKCS#8, readable by its owner only)."""
        return self.folder / f"{name}.key"

    def public_key(self, name: str) -> Path:
        """Return the path of public key `name` (PEM)."""
        return self.folder / f"{name}.pub"

    @property
    def card_root(self) -> Path:
        """Return the path of the root of the cards' device certificates (card-verifiable, DER)."""
        return self.folder / "card-root.cvcert"


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: PrivateKey


def development_pki() -> DevelopmentPki:
    """Return where the development keys are, whether or not they have been made."""
    return DevelopmentPki(state_folder() / "dev-keys")


def ensure_development_pki(folder: Path | None = None) -> DevelopmentPki:
    """Make whatever is missing of the development keys; existing files are never touched."""
    pki = DevelopmentPki(folder) if folder else development_pki()
    pki.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (pki.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first runs at once must not mix the keys of two authorities
        _ensure_all(pki)
    return pki


def _ensure_all(pki: DevelopmentPki) -> None:
    centre = _ensure_authority(pki, "centre-ca", "SD-Box development centre CA")
    _ensure_gateway(pki, centre)
    _ensure_authority(pki, "card-ca", "SD-Box development card CA")
    _ensure_card_root(pki)
    _ensure_ear(pki)
    for name in SECURE_BOOT_NAMES:
        _ensure_secure_boot(pki, name)


def _ensure_authority(pki: DevelopmentPki, name: str, title: str) -> _Authority:
    key = _ensure_key(pki.key(name), rsa_bits=None)
    if not pki.certificate(name).exists():
        builder = _builder(title, title, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        _write_certificate(pki.certificate(name), builder.sign(key, hashes.SHA256()))
    return _Authority(x509.load_pem_x509_certificate(pki.certificate(name).read_bytes()), key)


def _ensure_gateway(pki: DevelopmentPki, centre: _Authority) -> None:
    key = _ensure_key(pki.key("gateway"), rsa_bits=None)
    if pki.certificate("gateway").exists():
        return
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(centre.key.public_key())
    builder = _builder(GATEWAY_NAME, centre.certificate.subject, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(GATEWAY_NAME)]), critical=False)
    builder = builder.add_extension(issuer, critical=False)
    _write_certificate(pki.certificate("gateway"), builder.sign(centre.key, hashes.SHA256()))


def _ensure_ear(pki: DevelopmentPki) -> None:
    key = _ensure_key(pki.key("ear"), rsa_bits=None)
    if not pki.public_key("ear").exists():
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        _write(pki.public_key("ear"), key.public_key().public_bytes(serialization.Encoding.PEM, form), 0o644)


def _ensure_card_root(pki: DevelopmentPki) -> None:
    path = pki.key("card-root")
    if not path.exists():
        _write_key(path, generate_key())
    if not pki.card_root.exists():
        root = Holder.load_root(path)
        _write(pki.card_root, certify(root, root), 0o644)


def _ensure_secure_boot(pki: DevelopmentPki, name: str) -> None:
    """RSA-2048: what every UEFI firmware accepts (UEFI 2.10, 32.4.1)."""
    key = _ensure_key(pki.key(name), rsa_bits=2048)
    if not pki.certificate(name).exists():
        title = f"SD-Box development {name}"
        builder = _builder(title, title, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        _write_certificate(pki.certificate(name), builder.sign(key, hashes.SHA256()))


def _ensure_key(path: Path, *, rsa_bits: int | None) -> PrivateKey:
    if not path.exists():
        made = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        _write_key(path, made)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError(f"{path.name} holds neither an EC nor an RSA key")  # noqa: TRY004 - a wrong file, not a wrong type
    return key


def _write_key(path: Path, key: PrivateKey) -> None:
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(path, key.private_bytes(serialization.Encoding.PEM, form, none), 0o600)


def _builder(title: str, issuer: str | x509.Name, key: PrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    builder = x509.CertificateBuilder(
        subject_name=_name(title), issuer_name=issuer if isinstance(issuer, x509.Name) else _name(issuer)
    )
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - CLOCK_SLACK).not_valid_after(now + LIFETIME)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _name(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a whole file under its final name at once, with its mode from the first byte on."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.chmod(mode)
    partial.rename(path)
