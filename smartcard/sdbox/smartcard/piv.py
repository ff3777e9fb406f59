"""The PIV card application as the box uses it (NIST SP 800-73-5, parts 1 and 2): what is sent, what comes back."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.smartcard.apdu import OK, SELECT, Answer, ApduError, Transmit, exchange, tries_in
from sdbox.smartcard.bit import BIT_GROUP, BitError, EnrolledFinger, parse_bit_group
from sdbox.smartcard.certificates import PublicKey, Scheme, digest_of
from sdbox.smartcard.pss import pad_pss_sha256
from sdbox.smartcard.tlv import parse_tlvs, tlv

AUTHENTICATION: Final = 0x9A
RETIRED: Final = range(0x82, 0x96)
CERTIFICATE_OF: Final = {AUTHENTICATION: 0x5FC105, **{slot: 0x5FC10D + slot - 0x82 for slot in RETIRED}}
CHUID, KEY_HISTORY, DISCOVERY = 0x5FC102, 0x5FC10C, 0x7E
GUID, ON_CARD_CERTIFICATES, USAGE_POLICY = 0x34, 0xC1, 0x5F2F
OCC_ALLOWED: Final = 0x10  # usage policy, bit 5: on-card comparison opens the keys
CERTIFICATE, CERTIFICATE_INFO, OBJECT = 0x70, 0x71, 0x53
GZIP: Final = 0x01
CERTIFICATE_LIMIT: Final = 8192
GUID_SIZE: Final = 16
ALGORITHMS: Final = {Scheme.ECDSA_SECP256R1_SHA256: 0x11, Scheme.ECDSA_SECP384R1_SHA384: 0x14}
RSA_2048: Final = 0x07  # SP 800-78-5, table 10: no code for other lengths that a card of ours has
RSA_BITS: Final = 2048
DYNAMIC, CHALLENGE, RESPONSE = 0x7C, 0x81, 0x82
NOT_FOUND, WRONG_DATA = 0x6A82, 0x6A80


class PivError(Exception):
    """The card's answer is not what the standard says; the message tells to which command."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a VERIFY came to. `tries` are left, None if the card does not say; `refused_data`: no try was spent."""

    verified: bool
    tries: int | None
    refused_data: bool = False


class PivApplication:
    """The application behind `transmit`. It keeps nothing: select it at the beginning of each transaction."""

    def __init__(self, transmit: Transmit, aid: bytes) -> None:
        self._transmit = transmit
        self._aid = aid

    def select(self) -> None:
        """Select the application; what was verified before is so no more. PivError if the card has none."""
        self._expect("SELECT", self._send(SELECT, self._aid))

    def allows_comparison(self) -> bool:
        """Whether the discovery object says that on-card comparison opens the keys (part 1, section 3.3.2)."""
        found = self._get(DISCOVERY)
        policy = dict(self._objects("discovery", found, DISCOVERY)).get(USAGE_POLICY, b"") if found else b""
        return bool(policy and policy[0] & OCC_ALLOWED)

    def fingers(self) -> tuple[EnrolledFinger, ...]:
        """Return the fingers the card compares with."""
        found = self._get(BIT_GROUP)
        try:
            return parse_bit_group(found) if found else ()
        except BitError as error:
            raise PivError(str(error)) from error

    def serial(self) -> str:
        """Return the card's GUID of its CHUID, in hex; PivError if it has none."""
        guid = dict(self._objects("CHUID", self._get(CHUID))).get(GUID, b"")
        if len(guid) != GUID_SIZE or not any(guid):
            raise PivError("CHUID without GUID")
        return guid.hex()

    def certificates(self) -> Iterator[tuple[int, bytes]]:
        """Yield (key reference, certificate in DER) of 9A and of the retired keys, as many as the card says it has.

        What is in a certificate's place and is none is left out: it must not cost the others anything.
        """
        history = self._get(KEY_HISTORY)
        objects = dict(self._objects("key history", history)) if history else {}
        left = int.from_bytes(objects.get(ON_CARD_CERTIFICATES, b"\x00"), "big")
        for slot, tag in CERTIFICATE_OF.items():
            if slot != AUTHENTICATION and not left:
                return
            found = self._get(tag)
            try:
                certificate = self._certificate(found) if found else None
            except PivError:
                left -= slot != AUTHENTICATION
                continue
            if certificate:
                left -= slot != AUTHENTICATION
                yield slot, certificate

    def counter(self, reference: int) -> Verdict:
        """Ask how many tries `reference` has left; costs none."""
        return self._verdict(self._send(bytes((0x00, 0x20, 0x00, reference)), asks=False))

    def verify(self, reference: int, template: bytearray) -> Verdict:
        """Compare once. `template`: 3 bytes per minutia, without any wrapper; the card says 6A80 to other lengths."""
        return self._verdict(self._send(bytes((0x00, 0x20, 0x00, reference)), template, asks=False))

    def forget(self, reference: int) -> None:
        """Drop the verified state (part 2, section 3.2.1: P1 = FF)."""
        self._expect("VERIFY FF", self._send(bytes((0x00, 0x20, 0xFF, reference)), asks=False))

    def sign(self, slot: int, key: PublicKey, scheme: Scheme, content: bytes) -> bytes:
        """Return the signature of `content` by key `slot` (ECDSA: DER), by GENERAL AUTHENTICATE (part 2, 3.2.4)."""
        digest, algorithm = digest_of(scheme, content), ALGORITHMS.get(scheme, RSA_2048)
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size != RSA_BITS:
                raise PivError("RSA key of another length than 2048 bits")
            digest = pad_pss_sha256(digest, RSA_BITS)
        template = tlv(DYNAMIC, tlv(RESPONSE), tlv(CHALLENGE, digest))
        answer = self._expect("GENERAL AUTHENTICATE", self._send(bytes((0x00, 0x87, algorithm, slot)), template))
        signature = dict(self._objects("GENERAL AUTHENTICATE", answer, DYNAMIC)).get(RESPONSE)
        if not signature:
            raise PivError("GENERAL AUTHENTICATE without a response")
        return signature

    def _send(self, header: bytes, data: bytes | bytearray = b"", *, asks: bool = True) -> Answer:
        try:
            return exchange(self._transmit, header, data, asks=asks)
        except ApduError as error:
            raise PivError(str(error)) from error

    def _get(self, tag: int) -> bytes | None:
        """Return a data object, None if the card does not have it (GET DATA, part 2, section 3.1.2)."""
        name = tlv(0x5C, tag.to_bytes((tag.bit_length() + 7) // 8, "big"))
        answer = self._send(bytes((0x00, 0xCB, 0x3F, 0xFF)), name)
        return None if answer.status == NOT_FOUND else self._expect("GET DATA", answer)

    @staticmethod
    def _expect(what: str, answer: Answer) -> bytes:
        if answer.status != OK:
            raise PivError(f"{what}: {answer.status:04X}")
        return answer.data

    @staticmethod
    def _objects(what: str, data: bytes | None, wrapper: int = OBJECT) -> list[tuple[int, bytes]]:
        try:
            ((tag, value),) = parse_tlvs(data or b"")
            if tag == wrapper:
                return list(parse_tlvs(value))
        except ValueError:
            pass
        raise PivError(f"{what}: malformed")

    def _certificate(self, data: bytes) -> bytes | None:
        """Return the certificate of an object, None if that is empty (part 1, appendix A: 70, 71, FE)."""
        objects = dict(self._objects("certificate", data))
        value, info = objects.get(CERTIFICATE, b""), objects.get(CERTIFICATE_INFO, b"\x00")
        return gunzip(value) if value and info[-1:] and info[-1] & GZIP else value or None

    @staticmethod
    def _verdict(answer: Answer) -> Verdict:
        status = answer.status
        if status == OK:
            return Verdict(verified=True, tries=None)
        if (tries := tries_in(status)) is not None:
            return Verdict(verified=False, tries=tries)
        if status == WRONG_DATA:
            return Verdict(verified=False, tries=None, refused_data=True)
        raise PivError(f"VERIFY: {status:04X}")


def gunzip(data: bytes) -> bytes:
    """Return a compressed certificate; PivError if it is malformed or longer than a certificate can be."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = inflater.decompress(data, CERTIFICATE_LIMIT)
    except zlib.error as error:
        raise PivError("certificate: malformed gzip") from error
    if not inflater.eof or inflater.unused_data:
        raise PivError("certificate: gzip cut short or too long")
    return plain
