"""The card CA's certificate revocation list (RFC 5280, section 5), as a list of serial numbers."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PEM = b"-----BEGIN"


def revoked_serials(data: bytes, card_ca: bytes) -> tuple[str, ...]:
    """Return the serial numbers (hex) in a CRL (DER or PEM) of the CA `card_ca` (PEM). ValueError if it is not its own.

    A list that is out of date is taken all the same: what it revokes is revoked, and nothing is ever taken back.
    """
    authority = x509.load_pem_x509_certificate(card_ca)
    key = authority.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ValueError("the card CA has no key that signs such lists")  # noqa: TRY004 - one error for a bad file
    try:
        crl = x509.load_pem_x509_crl(data) if data.startswith(PEM) else x509.load_der_x509_crl(data)
        genuine = crl.issuer == authority.subject and crl.is_signature_valid(key)
    except (UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError("a CRL of a version, or signed in a way, that is not supported") from error
    if not genuine:
        raise ValueError("not a CRL of the card CA")
    return tuple(f"{entry.serial_number:x}" for entry in crl)
