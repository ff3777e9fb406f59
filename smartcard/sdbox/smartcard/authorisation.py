"""An operator's signed word that one finger may be put on one card, once.

The operator's certificate is issued by the centre's CA and names the role in its SAN; the word names the card by its
serial, the person, and a day at most. Nothing is written to a card without it.
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.certificates import UNREADABLE

OPERATOR: Final = "urn:sdbox:operator:enrolment"
LABEL: Final = b"sdbox-enrolment-v1"
LONGEST: Final = timedelta(days=1)
LARGEST: Final = 8192
NUMBER_BYTES: Final = 16

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator signs. Times in seconds since 1970, UTC."""

    number: Annotated[bytes, msgspec.Meta(min_length=NUMBER_BYTES, max_length=NUMBER_BYTES)]  # good for one use
    card: Text  # the serial number as `sdbox card show` has it
    person: Text
    begins: int
    ends: int


class Authorisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A statement as it was signed, the operator's certificate (DER), and the signature (ECDSA with SHA-256, DER)."""

    statement: bytes
    certificate: bytes
    signature: bytes


def authorise(statement: Statement, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signed statement. ValueError if the key does not belong to the certificate."""
    if certificate.public_key() != key.public_key():
        raise ValueError("the key does not belong to the certificate")
    content = msgspec.msgpack.encode(statement)
    signature = key.sign(LABEL + content, ec.ECDSA(hashes.SHA256()))
    return msgspec.msgpack.encode(Authorisation(content, certificate.public_bytes(Encoding.DER), signature))


def check_authorisation(data: bytes, authority: x509.Certificate, card: str, now: datetime) -> Statement:
    """Return the statement if an operator of `authority` signed it for this card and this hour.

    Refusal ENROLMENT_REFUSED, with what is wrong, for whatever is not exactly right. One use is for `SpentNumbers`.
    """
    try:
        statement, fault = _checked(data, authority, now)
    except (msgspec.MsgspecError, InvalidSignature, RecursionError, *UNREADABLE) as error:
        raise Refusal(Reason.ENROLMENT_REFUSED, f"authorisation: {type(error).__name__}") from error
    if fault is None and statement.card != card:
        fault = "it is for another card"
    if fault is not None:
        raise Refusal(Reason.ENROLMENT_REFUSED, fault)
    return statement


def _checked(data: bytes, authority: x509.Certificate, now: datetime) -> tuple[Statement, str | None]:
    if len(data) > LARGEST:
        raise ValueError("too long")
    signed = msgspec.msgpack.decode(data, type=Authorisation)
    operator = x509.load_der_x509_certificate(signed.certificate)
    operator.verify_directly_issued_by(authority)
    key = operator.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("not an EC key")
    key.verify(signed.signature, LABEL + signed.statement, ec.ECDSA(hashes.SHA256()))
    statement = msgspec.msgpack.decode(signed.statement, type=Statement)
    if not _is_operator(operator):
        return statement, "the signer is no operator for enrolments"
    if not operator.not_valid_before_utc <= now <= operator.not_valid_after_utc:
        return statement, "the operator's certificate is not valid now"
    if not statement.begins <= now.timestamp() < statement.ends:
        return statement, "it is not valid now"
    too_long = statement.ends - statement.begins > LONGEST.total_seconds()
    return statement, "it is valid for more than a day" if too_long else None


def _is_operator(certificate: x509.Certificate) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    return usage.digital_signature and OPERATOR in names.get_values_for_type(x509.UniformResourceIdentifier)


class SpentNumbers:
    """The desk's list of used authorisations: one number in hex a line, only ever added to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def spend(self, statement: Statement) -> None:
        """Write the number down, on the disk before this returns; Refusal ENROLMENT_REFUSED if it is there already."""
        number = statement.number.hex()
        with self._path.open("a+", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            if number in stream.read().split():
                raise Refusal(Reason.ENROLMENT_REFUSED, "it was used before")
            stream.write(f"{number}\n")
            stream.flush()
            os.fsync(stream.fileno())


def new_statement(card: str, person: str, hours: float) -> Statement:
    """Return a statement that begins now."""
    now = int(datetime.now(UTC).timestamp())
    return Statement(os.urandom(NUMBER_BYTES), card, person, now, now + int(hours * 3600))
