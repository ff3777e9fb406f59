"""IsoApplet 1.0 on a Java Card, as pkcs15-init leaves it: what OpenSC's isoApplet driver sends (0.23, 0.26).

Its PIN is told by VERIFY as 63Cx even when it is verified, and as 63C0, not 6983, when it is blocked. OpenSC 0.23 takes
this version for an older one: of its signatures only RSA with PKCS#1 v1.5 padding are right. Left out: making and
importing keys, writing files, the PUK.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sdbox.smartcard.virtual.apdu import Command, Status
from sdbox.smartcard.virtual.filesystem import BY_NAME, FileSystem
from sdbox.smartcard.virtual.keys import ecdsa_der, rsa_decrypt_pkcs1, rsa_sign_pkcs1, rsa_sign_pss
from sdbox.smartcard.virtual.personalise import CardKey, FilledContainer
from sdbox.smartcard.virtual.pkcs15 import FOLDER, KeyPlace, Layout, PinRules, directory
from sdbox.smartcard.virtual.sensor import Report
from sdbox.smartcard.virtual.shell import CardRefusal, Handler, Pin, Shell
from sdbox.smartcard.virtual.tlv import parse_tlvs

ATR: Final = bytes.fromhex("3BD518FF8191FE1FC38073C821100A")  # NXP JCOP 4; OpenSC looks for the applet, not for an ATR
AID: Final = bytes.fromhex("F276A288BCFBA69D34F31001")
VERSION: Final = bytes.fromhex("0100" + "0F")  # and its features: extended length, random, ECC, RSA-PSS
KEYS: Final = 16
MAX_TRIES: Final = 3
PIN: Final = PinRules(reference=1, flags=0x8C, shortest=4, stored=16, padding=0)
LAYOUT: Final = Layout("JavaCard isoApplet", PIN)
PKCS1, PSS, ECDSA = 0x11, 0x12, 0x21
SIGN, DECIPHER = 0xB6, 0xB8
CHALLENGE_LIMIT: Final = 256


class IsoAppletCard:
    """The card. Files, keys and counter stay when the power goes; selection, PIN and security environment do not."""

    atr: bytes = ATR

    def __init__(self, serial: str, containers: Sequence[FilledContainer], pin: bytes, report: Report) -> None:
        if len(containers) > KEYS:
            raise ValueError(f"an IsoApplet holds {KEYS} keys")
        self._report = report
        padded = pin.ljust(PIN.stored, bytes([PIN.padding]))
        self._pin = Pin(padded, MAX_TRIES, report, blocked=0x63C0, tells=False)
        self._keys: list[CardKey] = [container.key for container in containers]
        places = [KeyPlace(index, FOLDER, f"{FOLDER}34{index:02X}") for index in range(KEYS)]
        self._files = FileSystem(directory(LAYOUT, serial, containers, places), {})
        self.handlers: Mapping[int, Handler] = {
            0xA4: self._select,
            0xB0: self._files.read,
            0xCA: self._get_data,
            0x20: self._verify,
            0x22: self._manage,
            0x2A: self._perform,
            0x84: self._challenge,
        }
        self._shell = Shell(self)

    def reset(self) -> None:
        self._pin.forget()
        self._files.reset()
        self._selected = False
        self._environment: tuple[int, CardKey] | None = None

    def power(self) -> None:
        self._shell.power()

    def pulled(self) -> None:
        """Nothing on this card waits."""

    def block(self) -> None:
        self._pin.block()

    def process(self, apdu: bytes) -> bytes:
        return self._shell.process(apdu)

    def _select(self, command: Command) -> bytes:
        """By name only the applet itself is found; that ends what was verified."""
        if command.p1 == BY_NAME:
            if command.data != AID:
                raise CardRefusal(Status.NOT_FOUND)
            self.reset()
            self._selected = True
            return b""
        if not self._selected:
            raise CardRefusal(Status.NOT_FOUND)
        return self._files.select(command)

    def _get_data(self, command: Command) -> bytes:
        if not self._selected or (command.p1, command.p2) != (0x01, 0x01):
            raise CardRefusal(Status.WRONG_PARAMETERS)
        return VERSION

    def _verify(self, command: Command) -> bytes:
        if not self._selected or (command.p1, command.p2) != (0, PIN.reference):
            raise CardRefusal(Status.WRONG_PARAMETERS)
        if command.data and not PIN.shortest <= len(command.data) <= PIN.stored:
            raise CardRefusal(Status.WRONG_LENGTH)  # costs no try
        padded = command.data and command.data.ljust(PIN.stored, bytes([PIN.padding]))
        return self._pin.verify(Command(command.cla, command.ins, command.p1, command.p2, padded, command.length))

    def _manage(self, command: Command) -> bytes:
        """MANAGE SECURITY ENVIRONMENT: SET (ISO 7816-4, 11.5.11): 80 algorithm, 84 key reference."""
        self._pin.require()
        if command.p1 != 0x41 or command.p2 not in (SIGN, DECIPHER):
            raise CardRefusal(Status.NOT_SUPPORTED)
        found = dict(parse_tlvs(command.data))
        algorithm, reference = found.get(0x80, b""), found.get(0x84, b"")
        if len(algorithm) != 1 or len(reference) != 1 or reference[0] >= len(self._keys):
            raise CardRefusal(Status.INVALID_DATA)
        key = self._keys[reference[0]]
        if (algorithm[0] == ECDSA) is isinstance(key, rsa.RSAPrivateKey):
            raise CardRefusal(Status.INVALID_DATA)
        self._environment = algorithm[0], key
        return b""

    def _perform(self, command: Command) -> bytes:
        """PSO: COMPUTE DIGITAL SIGNATURE and DECIPHER with the key and the algorithm that were set."""
        self._pin.require()
        if self._environment is None:
            raise CardRefusal(Status.CONDITIONS)
        algorithm, key = self._environment
        if (command.p1, command.p2) == (0x9E, 0x9A):
            signature = _sign(algorithm, key, command.data)
            self._report("sign")
            return signature
        if (command.p1, command.p2) != (0x80, 0x86) or not isinstance(key, rsa.RSAPrivateKey):
            raise CardRefusal(Status.WRONG_PARAMETERS)
        return rsa_decrypt_pkcs1(key, command.data[1:])

    def _challenge(self, command: Command) -> bytes:
        if not self._selected:
            raise CardRefusal(Status.NO_INSTRUCTION)
        return secrets.token_bytes(min(command.length or 8, CHALLENGE_LIMIT))


def _sign(algorithm: int, key: CardKey, content: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ecdsa_der(key, content)
    if algorithm == PSS:
        return rsa_sign_pss(key, content)
    if algorithm == PKCS1:
        return rsa_sign_pkcs1(key, content)
    raise CardRefusal(Status.NOT_SUPPORTED)
