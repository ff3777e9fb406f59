"""Certificates of TPMs and their vendors, with the quirks that are known of them; each is named in `quirks`.

`set-order`: Nuvoton's CAs have names whose SETs are not in the order of DER (X.690, 11.6). The library refuses to parse
them. They are read from a copy with the members put in order, which changes no length and no value; the signature is
checked over the bytes that were signed. `padding`: some vendors' NV index is larger than the certificate in it; the
rest is one byte over and over, 0x00 or 0xFF, as memory is when nobody wrote to it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

_LARGEST = 0xFFFF
_DEEPEST = 24  # a certificate has a dozen levels
_SET, _CONSTRUCTED = 0x31, 0x20
_PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class VendorCertificate:
    """A certificate as it was signed, and as it can be read."""

    der: bytes
    parsed: x509.Certificate
    quirks: tuple[str, ...] = ()

    def is_issued_by(self, issuer: VendorCertificate) -> bool:
        """Whether its issuer's name is that one's and the signature is by its key. Says nothing of what it may do."""
        try:
            return self.parsed.issuer == issuer.parsed.subject and self._is_signed_by(issuer.parsed.public_key())
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False

    def _is_signed_by(self, key: object) -> bool:
        algorithm, parameters = self.parsed.signature_hash_algorithm, self.parsed.signature_algorithm_parameters
        signature, (signed, *_) = self.parsed.signature, _members(self.der[_header(self.der)[1] :])
        if algorithm is None:
            return False
        if isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.PKCS1v15 | padding.PSS):
            key.verify(signature, signed, parameters, algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(signature, signed, parameters)
        else:
            return False
        return True


def load_vendor_certificate(data: bytes) -> VendorCertificate:
    """Return the certificate (DER; only padding may follow). ValueError if it is none."""
    if data[:2] != b"\x30\x82" or len(data) < 4:
        raise ValueError("not a DER sequence with a two-byte length")
    der = data[: 4 + int.from_bytes(data[2:4], "big")]
    rest = data[len(der) :]
    if rest.strip(rest[:1]) or rest[:1] not in {b"", b"\0", b"\xff"}:
        raise ValueError("bytes behind the certificate that are no padding")
    quirks = ("padding",) if rest else ()
    try:
        return VendorCertificate(der, x509.load_der_x509_certificate(der), quirks)
    except x509.InvalidVersion as error:  # no ValueError, unlike everything else that can be wrong
        raise ValueError(str(error)) from error
    except ValueError:
        ordered = _ordered(der, 0)
        if ordered == der:
            raise
    try:
        return VendorCertificate(der, x509.load_der_x509_certificate(ordered), (*quirks, "set-order"))
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error


def load_vendor_certificates(data: bytes) -> list[VendorCertificate]:
    """Return all certificates of a PEM, or the one of a DER file. ValueError if one is unreadable."""
    if _PEM.encode() not in data:
        return [load_vendor_certificate(data)]
    parts = data.decode("ascii", "replace").split(_PEM)[1:]
    return [load_vendor_certificate(ssl.PEM_cert_to_DER_cert(_PEM + _end(part))) for part in parts]


def quirks_of(data: bytes | None) -> tuple[str, ...]:
    """Return what was tolerated of an endorsement certificate (PEM or DER); nothing where there is none to read."""
    try:
        return load_vendor_certificates(data)[0].quirks if data else ()
    except (ValueError, IndexError):
        return ()


def pem_of(certificate: VendorCertificate) -> str:
    return ssl.DER_cert_to_PEM_cert(certificate.der)


def _end(part: str) -> str:
    return part.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"


def _ordered(data: bytes, depth: int) -> bytes:
    """Return one DER element with the members of each SET in it sorted. ValueError if lengths do not add up."""
    start = _header(data)[1]
    if not data[0] & _CONSTRUCTED or depth == _DEEPEST:
        return data
    members = [_ordered(member, depth + 1) for member in _members(data[start:])]
    return data[:start] + b"".join(sorted(members) if data[0] == _SET else members)


def _members(data: bytes) -> Iterator[bytes]:
    while data:
        size, start = _header(data)
        yield data[: start + size]
        data = data[start + size :]


def _header(data: bytes) -> tuple[int, int]:
    """Return the length of the value, and where it begins. ValueError if it is longer than `data`."""
    if len(data) < 2:
        raise ValueError("an element cut short")
    count = data[1] & 0x7F if data[1] & 0x80 else 0
    size = int.from_bytes(data[2 : 2 + count], "big") if count else data[1]
    if count > 2 or size > _LARGEST or 2 + count + size > len(data):
        raise ValueError("an element longer than what it is in")
    return size, 2 + count
