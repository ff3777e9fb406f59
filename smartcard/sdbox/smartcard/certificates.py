"""What a container's certificate says: which project it is for, and how its key signs for TLS 1.3."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from sdbox.protocol.values import PROJECT_URI

NAME_LIMIT: Final = 255
RSA_MIN_BITS: Final = 2048

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Scheme(IntEnum):
    """TLS signature schemes that cards are asked for (RFC 8446, section 4.2.3; RFC 9963 for the last)."""

    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PKCS1_SHA256_LEGACY = 0x0420


HASHES: Final[dict[Scheme, hashes.HashAlgorithm]] = {
    Scheme.ECDSA_SECP256R1_SHA256: hashes.SHA256(),
    Scheme.ECDSA_SECP384R1_SHA384: hashes.SHA384(),
    Scheme.RSA_PSS_RSAE_SHA256: hashes.SHA256(),
    Scheme.RSA_PKCS1_SHA256_LEGACY: hashes.SHA256(),
}
PADDINGS: Final[dict[Scheme, padding.AsymmetricPadding]] = {
    Scheme.RSA_PSS_RSAE_SHA256: padding.PSS(padding.MGF1(hashes.SHA256()), 32),
    Scheme.RSA_PKCS1_SHA256_LEGACY: padding.PKCS1v15(),
}

# What cryptography raises of a certificate that is none, or that holds what it does not know: half are no ValueErrors.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def project_of(certificate: bytes) -> str | None:
    """Return the project that a certificate (DER) names in its SAN; None if it names none, several, or is malformed."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except UNREADABLE:
        return None
    projects = [uri.removeprefix(PROJECT_URI) for uri in uris if uri.startswith(PROJECT_URI)]
    if len(projects) != 1 or not 0 < len(projects[0].encode()) <= NAME_LIMIT:
        return None
    return projects[0]


def public_key_of(certificate: bytes) -> PublicKey | None:
    """Return the certificate's key; None if it is of no kind we use."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except UNREADABLE:
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) else None


def can_sign(certificate: x509.Certificate) -> bool:
    """Whether the certificate has digitalSignature (RFC 5280, 4.2.1.3) and a key of a kind and size that we use."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        key = certificate.public_key()
    except UNREADABLE:
        return False
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return False
    return usage.digital_signature and bool(_schemes_of(key))


def choose_scheme(key: PublicKey, offered: Sequence[int]) -> Scheme | None:
    """Return our best scheme for `key` among `offered`: RSA signs with PSS where that is possible."""
    return next((scheme for scheme in _schemes_of(key) if scheme in offered), None)


def _schemes_of(key: PublicKey) -> tuple[Scheme, ...]:
    if isinstance(key, rsa.RSAPublicKey):
        both = (Scheme.RSA_PSS_RSAE_SHA256, Scheme.RSA_PKCS1_SHA256_LEGACY)
        return both if key.key_size >= RSA_MIN_BITS else ()
    if isinstance(key.curve, ec.SECP256R1):
        return (Scheme.ECDSA_SECP256R1_SHA256,)
    return (Scheme.ECDSA_SECP384R1_SHA384,) if isinstance(key.curve, ec.SECP384R1) else ()


def digest_of(scheme: Scheme, content: bytes) -> bytes:
    """Return the digest that the card signs."""
    digest = hashes.Hash(HASHES[scheme])
    digest.update(content)
    return digest.finalize()


def is_signed_by(key: PublicKey, scheme: Scheme, content: bytes, signature: bytes) -> bool:
    """Whether `signature` (ECDSA: DER) of `content` verifies with `key`."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, content, PADDINGS[scheme], hashes.SHA256())
        else:
            key.verify(signature, content, ec.ECDSA(HASHES[scheme]))
    except (InvalidSignature, KeyError):
        return False
    return True
