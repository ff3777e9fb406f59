"""Certificates of cards and servers, made on the spot."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
DAY = dt.timedelta(days=1)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*, sign: bool, issue: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=not sign and not issue,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issue,
        crl_sign=issue,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class Authority:
    """A CA: `issue` signs whatever the test wants."""

    title: str = "test CA"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def certificate(self) -> x509.Certificate:
        builder = self._builder(self.title, self.key.public_key(), 0, span=2 * 365)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return builder.add_extension(usage(sign=False, issue=True), critical=True).sign(self.key, hashes.SHA256())

    def project(self, public: PublicKey, *projects: str, days: float = 0, signs: bool = True) -> x509.Certificate:
        """Return a card certificate; `days` shifts its validity of two days around now."""
        builder = self._builder("container", public, days).add_extension(usage(sign=signs), critical=True)
        if projects:
            uris = [x509.UniformResourceIdentifier(f"urn:sdbox:project:{project}") for project in projects]
            builder = builder.add_extension(x509.SubjectAlternativeName(uris), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def crl(self, *serials: int) -> x509.CertificateRevocationList:
        """Return a list that revokes certificates of ours by their numbers."""
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder(name(self.title), now - DAY, now + DAY)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256())

    def server(self, public: PublicKey, *names: str, common_name: str = "server") -> x509.Certificate:
        builder = self._builder(common_name, public, 0)
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(item) for item in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _builder(self, title: str, public: PublicKey, days: float, span: float = 1) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC) + days * DAY
        builder = x509.CertificateBuilder(name(self.title), name(title), public, x509.random_serial_number())
        return builder.not_valid_before(now - span * DAY).not_valid_after(now + span * DAY)


def project_certificate(public: PublicKey, project: str) -> x509.Certificate:
    return Authority().project(public, project)
