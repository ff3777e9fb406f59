"""A MyEID card 4.5 (Aventra's PKCS#15 applet), as pkcs15-init leaves it: what OpenSC's myeid driver sends (0.23, 0.26).

A key is a file of its own, 4B01 and on; MANAGE SECURITY ENVIRONMENT names it by its file. Left out: writing, key
generation, key agreement, symmetric keys, the PUK and the other thirteen PINs that such a card may have.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sdbox.smartcard.virtual.apdu import Command, Status
from sdbox.smartcard.virtual.filesystem import BY_NAME, FilePath, FileSystem
from sdbox.smartcard.virtual.keys import ecdsa_der, key_bytes, rsa_decrypt_pkcs1, rsa_raw, rsa_sign_pkcs1
from sdbox.smartcard.virtual.personalise import CardKey, FilledContainer
from sdbox.smartcard.virtual.pkcs15 import AID, FOLDER, KeyPlace, Layout, PinRules, directory
from sdbox.smartcard.virtual.sensor import Report
from sdbox.smartcard.virtual.shell import CardRefusal, Handler, Pin, Shell
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ATR: Final = bytes.fromhex("3BF596000081" + "31FE454D7945494414")  # its historical bytes are "MyEID"
VERSION: Final = bytes([4, 5, 5])
# Version 1 of this object; RSA and EC; the longest RSA, DES, AES and EC keys in bits.
ABILITIES: Final = bytes.fromhex("01" + "0009" + "0800" + "0000" + "0000" + "0209")
KEYS: Final = 14
FIRST_KEY, FIRST_CERTIFICATE = 0x4B01, 0x4301
MAX_TRIES: Final = 3
LAYOUT: Final = Layout(
    "MyEID", PinRules(reference=1, flags=0x0C, shortest=4, stored=8, padding=0xFF), certificates="4403"
)
RAW, PKCS1, ECDSA = 0x00, 0x02, 0x04
SIGN, DECIPHER = 0xB6, 0xB8
INFORMATION, ABILITY, CHALLENGE_LIMIT = 0x01A0, 0x01AA, 256


class MyEidCard:
    """The card. Files, keys and counter stay when the power goes; selection, PIN and security environment do not."""

    atr: bytes = ATR

    def __init__(self, serial: str, containers: Sequence[FilledContainer], pin: bytes, report: Report) -> None:
        if len(containers) > KEYS:
            raise ValueError(f"a MyEID card holds {KEYS} keys")
        self._report = report
        self._serial = hashlib.sha256(f"sdbox-myeid-{serial}".encode()).digest()[:10]
        self._pin = Pin(pin.ljust(LAYOUT.pin.stored, b"\xff"), MAX_TRIES, report)
        self._keys: dict[int, CardKey] = {FIRST_KEY + index: item.key for index, item in enumerate(containers)}
        places = [
            KeyPlace(index, f"{FOLDER}{FIRST_KEY + index:04X}", f"{FOLDER}{FIRST_CERTIFICATE + index:04X}")
            for index in range(len(containers))
        ]
        files: dict[str, bytes | None] = {**directory(LAYOUT, self._serial.hex(), containers, places)}
        files |= {place.key: None for place in places}
        self._files = FileSystem(files, {AID: FOLDER}, _control)
        self.handlers: Mapping[int, Handler] = {
            0xA4: self._select,
            0xB0: self._files.read,
            0xCA: self._get_data,
            0x20: self._verify,
            0x22: self._manage,
            0x2A: self._perform,
            0x2E: self._log_out,
            0x84: self._challenge,
        }
        self._shell = Shell(self)

    def reset(self) -> None:
        self._pin.forget()
        self._files.reset()
        self._environment: tuple[int, int, CardKey] | None = None

    def power(self) -> None:
        self._shell.power()

    def pulled(self) -> None:
        """Nothing on this card waits."""

    def block(self) -> None:
        self._pin.block()

    def process(self, apdu: bytes) -> bytes:
        return self._shell.process(apdu)

    def _select(self, command: Command) -> bytes:
        """The applet is selected when the card gets power; selecting it again ends what was verified."""
        found = self._files.select(command)
        if command.p1 == BY_NAME:
            self._pin.forget()
        return found

    def _get_data(self, command: Command) -> bytes:
        tag = command.p1 << 8 | command.p2
        if tag == INFORMATION:  # name, version, serial, count of changes
            return b"MyEID" + VERSION + self._serial + bytes(2)
        if tag == ABILITY:
            return ABILITIES
        raise CardRefusal(Status.NO_REFERENCE)

    def _verify(self, command: Command) -> bytes:
        if command.p2 != LAYOUT.pin.reference:
            raise CardRefusal(Status.NO_REFERENCE)
        if command.data and len(command.data) != LAYOUT.pin.stored:
            raise CardRefusal(Status.WRONG_LENGTH)  # costs no try
        return self._pin.verify(command)

    def _log_out(self, _command: Command) -> bytes:
        self._pin.forget()
        return b""

    def _manage(self, command: Command) -> bytes:
        """MANAGE SECURITY ENVIRONMENT: SET: 80 algorithm, 81 the key's file."""
        found = dict(parse_tlvs(command.data))
        algorithm, key = found.get(0x80, b""), self._keys.get(int.from_bytes(found.get(0x81, b""), "big"))
        if command.p1 != 0x41 or command.p2 not in (SIGN, DECIPHER) or len(algorithm) != 1:
            raise CardRefusal(Status.WRONG_PARAMETERS)
        if key is None:
            raise CardRefusal(Status.NOT_FOUND)
        if isinstance(key, rsa.RSAPrivateKey) is (algorithm[0] == ECDSA):
            raise CardRefusal(Status.INVALID_DATA)
        self._environment = command.p2, algorithm[0], key
        return b""

    def _perform(self, command: Command) -> bytes:
        """PSO: COMPUTE DIGITAL SIGNATURE and DECIPHER with the key and the algorithm that were set."""
        self._pin.require()
        if self._environment is None:
            raise CardRefusal(Status.CONDITIONS)
        use, algorithm, key = self._environment
        if use == SIGN and (command.p1, command.p2) == (0x9E, 0x9A):
            signature = _sign(algorithm, key, command.data)
            self._report("sign")
            return signature
        if use == DECIPHER and (command.p1, command.p2) == (0x80, 0x86) and isinstance(key, rsa.RSAPrivateKey):
            decrypt = rsa_decrypt_pkcs1 if algorithm == PKCS1 else rsa_raw
            return decrypt(key, command.data[1:])  # the first byte is the padding indicator
        raise CardRefusal(Status.WRONG_PARAMETERS)

    @staticmethod
    def _challenge(command: Command) -> bytes:
        return secrets.token_bytes(min(command.length or 8, CHALLENGE_LIMIT))


def _sign(algorithm: int, key: CardKey, content: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ecdsa_der(key, content)
    if algorithm == PKCS1:
        return rsa_sign_pkcs1(key, content)
    if algorithm == RAW and len(content) == key_bytes(key):
        return rsa_raw(key, content)
    raise CardRefusal(Status.NOT_SUPPORTED)


def _control(_path: FilePath, _content: bytes | None) -> bytes:
    """Access rules, and the life cycle: without `activated` OpenSC takes the card for a new one and sends no PIN."""
    return tlv(0x86, bytes.fromhex("01000F")) + tlv(0x85, bytes(2)) + tlv(0x8A, b"\x07")
