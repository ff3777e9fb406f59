"""What can be wrong with a certificate that came from outside. The library reads most fields only when they are asked
for: what raises has to raise where it is expected, and not in the middle of a comparison.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

LONGEST_SERIAL: Final = 160  # bits; RFC 5280, 4.1.2.2, which wants it positive as well

# The library has no common base for what it finds malformed, or does not know.
UNREADABLE: Final = (
    *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


def load_certificate(der: bytes) -> x509.Certificate:
    """Parse a certificate; one of UNREADABLE if it is none, or has dates or a number that can not be worked with.

    A number of another size could not be named to `sdbox-gateway revoke`; the year 0, which DER has, Python has not.
    """
    certificate = x509.load_der_x509_certificate(der)
    if certificate.serial_number < 1 or certificate.serial_number.bit_length() > LONGEST_SERIAL:
        raise ValueError("serial number out of range")
    if certificate.not_valid_before_utc > certificate.not_valid_after_utc:
        raise ValueError("ends before it begins")
    return certificate
