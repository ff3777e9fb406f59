"""An OpenPGP card (functional specification of the OpenPGP application, 3.3) for OpenSC's openpgp driver, 0.23, 0.26.

The first project's key is the authentication key (INTERNAL AUTHENTICATE, password 82), the second's the signature key
(PSO: COMPUTE DIGITAL SIGNATURE, password 81, for one signature), the third's the decryption key, which never signs.
81 and 82 are the same PIN and share a counter. Left out: key generation and import, PUT DATA, the admin PIN's uses,
RESET RETRY COUNTER, secure messaging, KDF, private data objects.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sdbox.smartcard.virtual.apdu import Command, Status
from sdbox.smartcard.virtual.keys import ecdh, ecdsa_plain, key_bytes, public_point, rsa_decrypt_pkcs1, rsa_sign_pkcs1
from sdbox.smartcard.virtual.personalise import CardKey, FilledContainer
from sdbox.smartcard.virtual.sensor import Report
from sdbox.smartcard.virtual.shell import CardRefusal, Handler, Pin, Shell
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ATR: Final = bytes.fromhex("3BDA18FF81B1FE751F030031F573C00160009000" + "1C")
AID_PREFIX: Final = bytes.fromhex("D27600012401")
VERSION: Final = b"\x03\x03"
TEST_CARD: Final = b"\xff\xff"  # manufacturer (4.2.1)
SIGN, DECRYPT, AUTHENTICATE = 0xB6, 0xB8, 0xA4  # control reference templates name the keys
KEYS: Final = (AUTHENTICATE, SIGN, DECRYPT)  # in the order of the projects
CERTIFICATES: Final = (AUTHENTICATE, DECRYPT, SIGN)  # in the order of SELECT DATA (7.2.5)
ATTRIBUTES: Final = {SIGN: 0xC1, DECRYPT: 0xC2, AUTHENTICATE: 0xC3}
RSA, ECDH, ECDSA = 0x01, 0x12, 0x13
CURVES: Final = {"secp256r1": bytes.fromhex("2A8648CE3D030107"), "secp384r1": bytes.fromhex("2B81040022")}
PW1_SIGN, PW1, PW3 = 0x81, 0x82, 0x83
PIN_LONGEST: Final = 127
MAX_TRIES: Final = 3
CERTIFICATE: Final = 0x7F21
CHALLENGE_LIMIT: Final = 255
# GET CHALLENGE, key import, status bytes can be changed, private DOs, attributes can be changed; certificates
# to 2048 bytes; MANAGE SECURITY ENVIRONMENT
CAPABILITIES: Final = bytes.fromhex("7C0000FF080000FF0001")
HISTORICAL: Final = bytes.fromhex("0031F573C00160059000")
EXTENDED_LENGTH: Final = bytes.fromhex("020208000202" + "0800")


class OpenPgpCard:
    """The card. Objects, keys and counter stay when the power goes; verified passwords and chosen instances do not."""

    atr: bytes = ATR

    def __init__(self, serial: str, containers: Sequence[FilledContainer], pin: bytes, report: Report) -> None:
        if len(containers) > len(KEYS):
            raise ValueError(f"an OpenPGP card holds {len(KEYS)} keys")
        self._report = report
        self._pin = Pin(pin, MAX_TRIES, report)
        self._admin = Pin(secrets.token_bytes(8), MAX_TRIES, report)  # nobody knows it
        slots = dict(zip(KEYS, containers, strict=False))
        self._keys: dict[int, CardKey] = {slot: container.key for slot, container in slots.items()}
        self._certificates = [slots[slot].certificate if slot in slots else b"" for slot in CERTIFICATES]
        self._aid = AID_PREFIX + VERSION + TEST_CARD + bytes.fromhex(serial) + bytes(2)
        self.handlers: Mapping[int, Handler] = {
            0xA4: self._select,
            0xA5: self._select_data,
            0xCA: self._get_data,
            0x20: self._verify,
            0x22: self._manage,
            0x2A: self._perform,
            0x47: self._public_key,
            0x84: self._challenge,
            0x88: self._authenticate,
        }
        self._shell = Shell(self)

    def reset(self) -> None:
        self._pin.forget()
        self._admin.forget()
        self._instance = 0
        self._used = {DECRYPT: DECRYPT, AUTHENTICATE: AUTHENTICATE}

    def power(self) -> None:
        self._shell.power()

    def pulled(self) -> None:
        """Nothing on this card waits."""

    def block(self) -> None:
        self._pin.block()

    def process(self, apdu: bytes) -> bytes:
        return self._shell.process(apdu)

    def _select(self, command: Command) -> bytes:
        """The application is selected when the card gets power; selecting it again forgets the passwords."""
        if command.p1 != 0x04 or not (command.data and self._aid.startswith(command.data)):
            raise CardRefusal(Status.NOT_FOUND)
        self.reset()
        return tlv(0x6F, tlv(0x84, self._aid))

    def _select_data(self, command: Command) -> bytes:
        """Choose an instance of the certificate (7.2.5)."""
        if command.p1 >= len(CERTIFICATES) or command.data != bytes.fromhex("60045C027F21"):
            raise CardRefusal(Status.NO_REFERENCE)
        self._instance = command.p1
        return b""

    def _get_data(self, command: Command) -> bytes:
        tag = command.p1 << 8 | command.p2
        if tag == CERTIFICATE:
            return self._certificates[self._instance]
        found = self._objects().get(tag)
        if found is None:
            raise CardRefusal(Status.NO_REFERENCE)
        return found

    def _objects(self) -> dict[int, bytes]:
        """Return the simple and composite data objects (4.4.1)."""
        status = bytes([0, *3 * [PIN_LONGEST], self._pin.tries, 0, self._admin.tries])
        extended = tlv(0x7F66, EXTENDED_LENGTH)
        application = tlv(0x4F, self._aid) + tlv(0x5F52, HISTORICAL) + extended + self._discretionary(status)
        return {
            0x4F: self._aid,
            0x5E: b"",
            0x65: tlv(0x5B) + tlv(0x5F2D, b"fr") + tlv(0x5F35, b"9"),
            0x6E: application,
            0x7A: tlv(0x93, bytes(3)),
            0xC4: status,
            0x5F50: b"",
            0x5F52: HISTORICAL,
            0x7F66: extended,
        }

    def _discretionary(self, status: bytes) -> bytes:
        order = (SIGN, DECRYPT, AUTHENTICATE)
        attributes = [tlv(ATTRIBUTES[slot], self._attributes(slot)) for slot in order]
        prints = b"".join(self._fingerprint(slot) for slot in order)
        dates = b"".join(b"\x65\x00\x00\x00" if slot in self._keys else bytes(4) for slot in order)
        objects = (tlv(0xC5, prints), tlv(0xC6, bytes(60)), tlv(0xCD, dates))
        return tlv(0x73, tlv(0xC0, CAPABILITIES), *attributes, tlv(0xC4, status), *objects)

    def _attributes(self, slot: int) -> bytes:
        """Algorithm attributes (4.4.3.9); of a missing key, those of a new card."""
        key = self._keys.get(slot)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return bytes([ECDH if slot == DECRYPT else ECDSA]) + CURVES[key.curve.name]
        return bytes([RSA]) + (2048).to_bytes(2, "big") + b"\x00\x20\x00"

    def _fingerprint(self, slot: int) -> bytes:
        """Nothing on the card checks it; all zero tells that there is no key."""
        return hashlib.sha256(self._public(slot)).digest()[:20] if slot in self._keys else bytes(20)

    def _verify(self, command: Command) -> bytes:
        """Passwords 81 and 82 are one PIN, verified apart (7.2.2)."""
        if command.p2 == PW3:
            return self._admin.verify(command)
        if command.p2 not in (PW1_SIGN, PW1):
            raise CardRefusal(Status.NO_REFERENCE)
        return self._pin.verify(command, command.p2)

    def _manage(self, command: Command) -> bytes:
        """MANAGE SECURITY ENVIRONMENT (7.2.18): use key 2 or 3 for PSO: DECIPHER or INTERNAL AUTHENTICATE."""
        slot = {2: DECRYPT, 3: AUTHENTICATE}.get(command.data[-1] if command.data else 0)
        if slot is None or command.p2 not in self._used:
            raise CardRefusal(Status.NO_REFERENCE)
        self._used[command.p2] = slot
        return b""

    def _perform(self, command: Command) -> bytes:
        """PSO: COMPUTE DIGITAL SIGNATURE (7.2.10), PSO: DECIPHER (7.2.11)."""
        if (command.p1, command.p2) == (0x9E, 0x9A):
            self._pin.require(PW1_SIGN)
            self._pin.forget(PW1_SIGN)  # first byte of the status bytes: good for one signature
            return self._sign(SIGN, command.data)
        if (command.p1, command.p2) == (0x80, 0x86):
            self._pin.require(PW1)
            return self._decipher(command.data)
        raise CardRefusal(Status.WRONG_PARAMETERS)

    def _authenticate(self, command: Command) -> bytes:
        """INTERNAL AUTHENTICATE (7.2.13)."""
        self._pin.require(PW1)
        return self._sign(self._used[AUTHENTICATE], command.data)

    def _sign(self, slot: int, content: bytes) -> bytes:
        key = self._key(slot)
        self._report("sign")
        return rsa_sign_pkcs1(key, content) if isinstance(key, rsa.RSAPrivateKey) else ecdsa_plain(key, content)

    def _decipher(self, data: bytes) -> bytes:
        key = self._key(self._used[DECRYPT])
        if isinstance(key, rsa.RSAPrivateKey):
            return rsa_decrypt_pkcs1(key, data[1:])
        ((_, cipher),) = parse_tlvs(data)
        ((_, public),) = parse_tlvs(cipher)
        ((_, point),) = parse_tlvs(public)
        return ecdh(key, point)

    def _public_key(self, command: Command) -> bytes:
        """GENERATE ASYMMETRIC KEY PAIR, reading only (7.2.14)."""
        if command.p1 != 0x81:
            raise CardRefusal(Status.NOT_ALLOWED)
        slot = command.data[0] if command.data else 0
        self._key(slot)
        return tlv(0x7F49, self._public(slot))

    def _public(self, slot: int) -> bytes:
        key = self._key(slot)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return tlv(0x86, public_point(key))
        numbers = key.public_key().public_numbers()
        return tlv(0x81, numbers.n.to_bytes(key_bytes(key), "big")) + tlv(0x82, numbers.e.to_bytes(3, "big"))

    def _key(self, slot: int) -> CardKey:
        key = self._keys.get(slot)
        if key is None:
            raise CardRefusal(Status.NO_REFERENCE)
        return key

    @staticmethod
    def _challenge(command: Command) -> bytes:
        return secrets.token_bytes(min(command.length or 8, CHALLENGE_LIMIT))
