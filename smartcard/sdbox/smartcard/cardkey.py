"""A PKCS#10 request for a key that only a card has: `cryptography` writes it, the card signs it.

`cryptography` signs with whatever is a private key by its abstract class, so no ASN.1 is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.smartcard.certificates import PublicKey

Sign = Callable[[bytes, hashes.HashAlgorithm], bytes]
"""Signs a message: ECDSA in DER, or PKCS #1 v1.5."""


class _OnCard:
    """What a key on a card does not do."""

    def private_numbers(self) -> NoReturn:
        raise TypeError("the key is on the card")

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the key is on the card")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self


class CardEcKey(_OnCard, ec.EllipticCurvePrivateKey):
    """An EC key on a card."""

    def __init__(self, public: ec.EllipticCurvePublicKey, sign: Sign) -> None:
        self._public, self._sign = public, sign

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: bytes, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # type: ignore[override]  # a buffer there
        algorithm = signature_algorithm.algorithm
        if not isinstance(algorithm, hashes.HashAlgorithm):
            raise TypeError("only whole messages are signed")
        return self._sign(data, algorithm)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:  # noqa: ARG002
        raise TypeError("the key only signs")


class CardRsaKey(_OnCard, rsa.RSAPrivateKey):
    """An RSA key on a card."""

    def __init__(self, public: rsa.RSAPublicKey, sign: Sign) -> None:
        self._public, self._sign = public, sign

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: bytes, padding: padding.AsymmetricPadding, algorithm: object) -> bytes:
        if not isinstance(algorithm, hashes.SHA256) or padding.name != "EMSA-PKCS1-v1_5":
            raise TypeError("PKCS #1 v1.5 with SHA-256 only")
        return self._sign(data, algorithm)

    def decrypt(self, ciphertext: object, padding: object) -> NoReturn:  # noqa: ARG002
        raise TypeError("the key only signs")


def certificate_request(old: x509.Certificate, public: PublicKey, sign: Sign) -> bytes:
    """Return a PKCS#10 (DER) for `public`, with the subject and the names of `old`. ValueError if `old` has none."""
    try:
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound as error:
        raise ValueError("the old certificate names no project") from error
    builder = x509.CertificateSigningRequestBuilder(old.subject).add_extension(names.value, names.critical)
    if isinstance(public, rsa.RSAPublicKey):
        return builder.sign(CardRsaKey(public, sign), hashes.SHA256()).public_bytes(Encoding.DER)
    digest = hashes.SHA384() if public.curve.name == "secp384r1" else hashes.SHA256()
    return builder.sign(CardEcKey(public, sign), digest).public_bytes(Encoding.DER)
