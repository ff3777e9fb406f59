"""Who signs renewed card certificates, and what may be asked of them.

The policy is the gateway's, whoever signs: same subject, same project, a key of an allowed kind, not before half of the
life. What comes back from the CA is held against the same policy before any box sees it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from sdbox.gateway.certificates import UNREADABLE
from sdbox.gateway.renewalbook import fingerprint
from sdbox.protocol.reasons import Reason, Refusal

CLOCK_SLACK: Final = dt.timedelta(minutes=5)  # a box whose clock is a little late must be able to use it at once


class Issuer(Protocol):
    """A CA. `issue` blocks: run it in a thread."""

    def issue(self, old: x509.Certificate, request: x509.CertificateSigningRequest) -> x509.Certificate:
        """Return a certificate for a checked request. Refusal RENEWAL_UNAVAILABLE or RENEWAL_REFUSED."""


class OwnAuthority:
    """A CA whose key lies in a file: for development, or for a centre whose gateway is its card CA."""

    def __init__(self, certificate: Path, key: Path, life_days: int) -> None:
        """Read the PEM files. OSError or ValueError if they are not an EC key and the CA certificate of it."""
        loaded = load_pem_private_key(key.read_bytes(), None)
        self._certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or self._certificate.public_key() != loaded.public_key():
            raise ValueError("the issuing key must be an EC key that belongs to its certificate")
        self._key = loaded
        self._life = dt.timedelta(days=life_days)

    @property
    def public_key(self) -> str:
        """SHA-256 of its SubjectPublicKeyInfo."""
        return key_fingerprint(self._certificate)

    def issue(self, old: x509.Certificate, request: x509.CertificateSigningRequest) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        end = min(now + self._life, self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder(self._certificate.subject, old.subject, request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SLACK)
            .not_valid_after(end)
        )
        for extension, critical in self._extensions(old):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def _extensions(self, old: x509.Certificate) -> list[tuple[x509.ExtensionType, bool]]:
        """Nothing is taken from the request but the key: the names are the old certificate's."""
        others = ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign"]
        others += ["crl_sign", "encipher_only", "decipher_only"]
        return [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.KeyUsage(digital_signature=True, **dict.fromkeys(others, False)), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (names_of(old), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]


def names_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> x509.SubjectAlternativeName:
    """Return the SAN; ValueError if there is none."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ValueError("no subject alternative name") from error


def key_fingerprint(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo."""
    return fingerprint(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def key_kind(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return `p256`, `p384`, `rsa2048` and so on; what is neither is `other`."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "p256", "secp384r1": "p384"}.get(key.curve.name, "other")
    return "other"


def half_of_life(certificate: x509.Certificate) -> dt.datetime:
    """Return when renewal may begin."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) / 2


def read_request(old: x509.Certificate, der: bytes, kinds: Collection[str]) -> x509.CertificateSigningRequest:
    """Return the PKCS#10 if the policy allows it as a renewal of `old`; Refusal RENEWAL_REFUSED with what is wrong."""
    try:
        request = x509.load_der_x509_csr(der)
        fault = _request_fault(old, request, kinds)
    except UNREADABLE as error:
        raise Refusal(Reason.RENEWAL_REFUSED, f"request unreadable: {type(error).__name__}") from error
    if fault:
        raise Refusal(Reason.RENEWAL_REFUSED, fault)
    return request


def _request_fault(
    old: x509.Certificate, request: x509.CertificateSigningRequest, kinds: Collection[str]
) -> str | None:
    if not request.is_signature_valid:
        return "its signature is not by the key it asks for"
    if request.subject != old.subject or names_of(request) != names_of(old) or len(list(request.extensions)) != 1:
        return "another subject, other names or more extensions"
    if key_kind(request) not in kinds:
        return f"a key of kind {key_kind(request)}"
    if dt.datetime.now(dt.UTC) < half_of_life(old) - CLOCK_SLACK:
        return "before half of the life"
    return None


def check_issued(
    old: x509.Certificate, request: x509.CertificateSigningRequest, new: x509.Certificate
) -> x509.Certificate:
    """Return `new` if it is what was asked for; Refusal RENEWAL_UNAVAILABLE: the CA made something else."""
    try:
        good = (
            key_fingerprint(new) == key_fingerprint(request)
            and new.subject == old.subject
            and names_of(new) == names_of(old)
            and new.not_valid_after_utc > old.not_valid_after_utc
            and new.not_valid_before_utc > old.not_valid_before_utc
        )
    except UNREADABLE as error:
        raise Refusal(Reason.RENEWAL_UNAVAILABLE, f"the CA's certificate: {type(error).__name__}") from error
    if not good:
        raise Refusal(Reason.RENEWAL_UNAVAILABLE, "the CA's certificate is not what was asked for")
    return new
