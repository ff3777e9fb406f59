"""An IAS-ECC card (the French ministries' agent card): what OpenSC's iasecc driver sends (0.23).

PKCS#15 files below the application MIOMCT; PIN and keys are security data objects (SDO), found by GET DATA and told
by their control parameters. Signatures are INTERNAL AUTHENTICATE over a DigestInfo: OpenSC built with OpenSSL 3 can't
feed the card's own hashing. Left out: secure messaging (no access rule here asks for it), hashing on the card, writing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.smartcard.virtual.apdu import Command, Status
from sdbox.smartcard.virtual.filesystem import FilePath, FileSystem
from sdbox.smartcard.virtual.keys import key_bytes, rsa_decrypt_pkcs1, rsa_sign_pkcs1
from sdbox.smartcard.virtual.personalise import FilledContainer
from sdbox.smartcard.virtual.pkcs15 import AID, FOLDER, SEQUENCE, KeyPlace, Layout, PinRules, bits, directory, integer
from sdbox.smartcard.virtual.sensor import Report
from sdbox.smartcard.virtual.shell import CardRefusal, Handler, Pin, Shell
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ATR: Final = bytes.fromhex("3BDF96008031FE450031B864041FECC173940180829000EC")
ROOT_AID: Final = b"MIOMCT"
KEYS: Final = 8
MAX_TRIES: Final = 3
SHORTEST, LONGEST = 4, 12
PIN, FIRST_KEY, FIRST_CERTIFICATE = 0x01, 0x01, 0x3401
LOCAL: Final = 0x80
SERIAL_FILE: Final = 0x1C  # EF.SN, by its short identifier
SHORT_FILE: Final = 0x80
CHV_CLASS, PRIVATE_CLASS, ENVIRONMENT_CLASS = 0x81, 0x90, 0xFB
CHV_TAG, PRIVATE_TAG, CONTROL_TAG, ENVIRONMENT_TAG = 0x7F41, 0x7F48, 0xA0, 0x7B
USER: Final = 0x12  # access condition: the user, as security environment 2 says
ENVIRONMENT: Final = 2
SIGN_RSA, DECRYPT_RSA = 0x02, 0x1A  # the card's names of algorithms
AUTHENTICATE, DECIPHER = 0xA4, 0xB8
CHALLENGE: Final = 8  # GET CHALLENGE gives no other size

MECHANISM: Final = 1  # CKM_RSA_PKCS
MAY_SIGN, MAY_DECIPHER = 0x40, 0x04  # operations


def _algorithm(number: int, operations: int, name: int) -> bytes:
    """Return AlgorithmInfo (ISO 7816-15, 8.10): a PKCS#11 mechanism without parameters, and the card's name of it."""
    return tlv(SEQUENCE, integer(number), integer(MECHANISM), tlv(0x05), bits(operations), integer(name))


LAYOUT: Final = Layout(
    "IAS-ECC",
    PinRules(reference=PIN, flags=0x08, shortest=SHORTEST, stored=LONGEST, padding=0),
    by_name=True,
    algorithms=tlv(0xA2, _algorithm(1, MAY_SIGN, SIGN_RSA), _algorithm(2, MAY_DECIPHER, DECRYPT_RSA)),
)


class IasEccCard:
    """The card. Files, keys and counter stay when the power goes; selection, PIN and security environment do not."""

    atr: bytes = ATR

    def __init__(self, serial: str, containers: Sequence[FilledContainer], pin: bytes, report: Report) -> None:
        if len(containers) > KEYS:
            raise ValueError(f"this emulated IAS-ECC card holds {KEYS} keys")
        self._report = report
        self._serial = hashlib.sha256(f"sdbox-iasecc-{serial}".encode()).digest()[:8]
        self._pin = Pin(pin, MAX_TRIES, report)
        self._keys = {FIRST_KEY + index: _rsa(container) for index, container in enumerate(containers)}
        places = [KeyPlace(number, "3F00", f"{FIRST_CERTIFICATE + number - FIRST_KEY:04X}") for number in self._keys]
        files: dict[str, bytes | None] = {**directory(LAYOUT, self._serial.hex(), containers, places)}
        self._files = FileSystem(files, {ROOT_AID: "3F00", AID: FOLDER}, _access_rules)
        self.handlers: Mapping[int, Handler] = {
            0xA4: self._files.select,
            0xB0: self._read,
            0xCB: self._get_data,
            0x20: self._verify,
            0x22: self._manage,
            0x2A: self._decipher,
            0x84: self._challenge,
            0x88: self._authenticate,
        }
        self._shell = Shell(self)

    def reset(self) -> None:
        self._pin.forget()
        self._files.reset()
        self._environment: tuple[int, rsa.RSAPrivateKey] | None = None

    def power(self) -> None:
        self._shell.power()

    def pulled(self) -> None:
        """Nothing on this card waits."""

    def block(self) -> None:
        self._pin.block()

    def process(self, apdu: bytes) -> bytes:
        return self._shell.process(apdu)

    def _read(self, command: Command) -> bytes:
        if not command.p1 & SHORT_FILE:
            return self._files.read(command)
        if command.p1 & ~SHORT_FILE != SERIAL_FILE:
            raise CardRefusal(Status.NOT_FOUND)
        return tlv(0x5A, self._serial)  # as a primary account number (ISO 7812)

    def _get_data(self, command: Command) -> bytes:
        """GET DATA 4D { 70 { BF class reference { wanted tag, 80 } } }: an SDO, or part of it."""
        if (command.p1, command.p2) != (0x3F, 0xFF):
            raise CardRefusal(Status.WRONG_PARAMETERS)
        header = dict(parse_tlvs(command.data)).get(0x4D, b"")
        ((name, wanted),) = parse_tlvs(dict(parse_tlvs(header)).get(0x70, b""))
        found = self._object(name >> 8 & 0xFF, name & 0xFF, int.from_bytes(wanted[:-1], "big"))
        return tlv(0x70, tlv(name, found))

    def _object(self, kind: int, number: int, wanted: int) -> bytes:
        """Return the part `wanted` of an SDO; CardRefusal(6A88) if there is none, 6A80 for what is kept."""
        if (kind, number, wanted) == (CHV_CLASS, PIN, CHV_TAG):
            return tlv(CHV_TAG, tlv(0x80, bytes([LONGEST])), tlv(0x81, bytes([SHORTEST])))
        if (kind, number, wanted) == (CHV_CLASS, PIN, CONTROL_TAG):
            counters = tlv(0x9A, bytes([MAX_TRIES])) + tlv(0x9B, bytes([self._pin.tries]))
            return tlv(CONTROL_TAG, counters, _rules(0x63, USER, 0x00, 0xFF, 0x00))
        if kind == PRIVATE_CLASS and number in self._keys:
            if wanted != CONTROL_TAG:
                raise CardRefusal(Status.WRONG_DATA)
            size = tlv(0x80, key_bytes(self._keys[number]).to_bytes(2, "big"))
            return tlv(CONTROL_TAG, size, _rules(0x73, 0xFF, USER, USER, 0xFF, 0x00))
        if (kind, number, wanted) == (ENVIRONMENT_CLASS, ENVIRONMENT, ENVIRONMENT_TAG):
            return tlv(ENVIRONMENT_TAG, tlv(AUTHENTICATE, tlv(0x95, b"\x08"), tlv(0x83, bytes([PIN]))))
        raise CardRefusal(Status.NO_REFERENCE)

    def _verify(self, command: Command) -> bytes:
        if command.p2 != PIN:
            raise CardRefusal(Status.NO_REFERENCE)
        if command.data and not SHORTEST <= len(command.data) <= LONGEST:
            raise CardRefusal(Status.WRONG_LENGTH)  # costs no try
        return self._pin.verify(command)

    def _manage(self, command: Command) -> bytes:
        """MSE: SET of a key (84, local) for signatures or deciphering, with the card's name of the algorithm (80)."""
        found = dict(parse_tlvs(command.data))
        name = {AUTHENTICATE: SIGN_RSA, DECIPHER: DECRYPT_RSA}.get(command.p2)
        if command.p1 != 0x41 or name is None:
            raise CardRefusal(Status.WRONG_PARAMETERS)
        key = self._keys.get(int.from_bytes(found.get(0x84, b""), "big") & ~LOCAL)
        if key is None:
            raise CardRefusal(Status.NO_REFERENCE)
        if found.get(0x80) != bytes([name]):
            raise CardRefusal(Status.WRONG_DATA)
        self._environment = command.p2, key
        return b""

    def _key(self, use: int) -> rsa.RSAPrivateKey:
        self._pin.require()
        if self._environment is None or self._environment[0] != use:
            raise CardRefusal(Status.CONDITIONS)
        return self._environment[1]

    def _authenticate(self, command: Command) -> bytes:
        """INTERNAL AUTHENTICATE: pad the DigestInfo as PKCS#1 v1.5 does, and sign."""
        signature = rsa_sign_pkcs1(self._key(AUTHENTICATE), command.data)
        self._report("sign")
        return signature

    def _decipher(self, command: Command) -> bytes:
        if (command.p1, command.p2) != (0x80, 0x86):
            raise CardRefusal(Status.WRONG_PARAMETERS)
        return rsa_decrypt_pkcs1(self._key(DECIPHER), command.data[1:])  # the first byte is the padding indicator

    @staticmethod
    def _challenge(command: Command) -> bytes:
        if command.length != CHALLENGE:
            raise CardRefusal(Status.WRONG_LENGTH)
        return secrets.token_bytes(CHALLENGE)


def _rsa(container: FilledContainer) -> rsa.RSAPrivateKey:
    if not isinstance(container.key, rsa.RSAPrivateKey):
        raise TypeError("OpenSC knows no EC keys of IAS-ECC cards")
    return container.key


def _rules(which: int, *conditions: int) -> bytes:
    """Return access rules on contacts: a bit for each operation, and the condition of each that has one."""
    return tlv(0xA1, tlv(0x8C, bytes([which, *conditions])))


def _access_rules(_path: FilePath, _content: bytes | None) -> bytes:
    """Reading is free; without rules OpenSC refuses a file."""
    return tlv(0x8A, b"\x05") + _rules(0x01, 0x00)
