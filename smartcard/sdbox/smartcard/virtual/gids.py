"""A GIDS card (Generic Identity Device Specification 2.0) as OpenSC's gids driver reads it (0.23, 0.26).

Its files are data objects behind Windows' minidriver names: `masterfile` tells where each lies, `cmapfile` lists the
containers, `mscp/kxcNN` holds the compressed certificate of container NN. The driver knows RSA with PKCS#1 v1.5 padding
and nothing else. Left out: writing, key generation, the administrator's key, secure messaging.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.smartcard.virtual.apdu import Command, Status
from sdbox.smartcard.virtual.keys import key_bytes, rsa_decrypt_pkcs1, rsa_sign_pkcs1
from sdbox.smartcard.virtual.personalise import FilledContainer
from sdbox.smartcard.virtual.sensor import Report
from sdbox.smartcard.virtual.shell import CardRefusal, Handler, Pin, Shell
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ATR: Final = bytes.fromhex("3BD518FF8191FE1FC38073C821100A")  # NXP JCOP 4; OpenSC looks for the applet, not for an ATR
AID: Final = bytes.fromhex("A000000397425446590201")
AID_SHORT: Final = 9
KEYS: Final = 126
FIRST_KEY: Final = 0x81
MAX_TRIES: Final = 3
USER_PIN, FORGET_ALL = 0x80, 0x82  # references of VERIFY
SHORTEST, LONGEST = 4, 16
USER_DIRECTORY, USER_WRITES, ADMIN_WRITES, APPLICATION = 0xA000, 0xA010, 0xA012, 0x3FFF  # files that hold objects
MASTER_FILE, CARD_ID, CACHE_FILE, CONTAINER_MAP, FIRST_CERTIFICATE = 0xDF1F, 0xDF20, 0xDF22, 0xDF23, 0xDF24
PIN_STATUS: Final = 0x7F71
RSA_2048: Final = 0x07  # cryptographic mechanism; 0x50 signs, 0x40 decrypts, both with PKCS#1 padding
SIGN, DECIPHER = 0xB6, 0xB8
ALGORITHMS: Final = {SIGN: RSA_2048 | 0x50, DECIPHER: RSA_2048 | 0x40}
VALID, DEFAULT = 1, 2
NAME_LIMIT: Final = 39


class GidsCard:
    """The card. Objects, keys and counter stay when the power goes; selection, PIN and security environment do not."""

    atr: bytes = ATR

    def __init__(self, serial: str, containers: Sequence[FilledContainer], pin: bytes, report: Report) -> None:
        if len(containers) > KEYS:
            raise ValueError(f"a GIDS card holds {KEYS} keys")
        self._report = report
        self._pin = Pin(pin, MAX_TRIES, report, tells=False)
        self._keys = [_rsa_key(container) for container in containers]
        self._objects = _data_objects(serial, containers)
        self.handlers: Mapping[int, Handler] = {
            0xA4: self._select,
            0xCB: self._get_data,
            0x20: self._verify,
            0x22: self._manage,
            0x2A: self._perform,
        }
        self._shell = Shell(self)

    def reset(self) -> None:
        self._pin.forget()
        self._selected = False
        self._environment: tuple[int, rsa.RSAPrivateKey] | None = None

    def power(self) -> None:
        self._shell.power()

    def pulled(self) -> None:
        """Nothing on this card waits."""

    def block(self) -> None:
        self._pin.block()

    def process(self, apdu: bytes) -> bytes:
        return self._shell.process(apdu)

    def _select(self, command: Command) -> bytes:
        if command.p1 != 0x04 or len(command.data) < AID_SHORT or not AID.startswith(command.data):
            raise CardRefusal(Status.NOT_FOUND)
        self.reset()
        self._selected = True
        return tlv(0x61, tlv(0x4F, AID), tlv(0x73, bytes.fromhex("4001C0")))

    def _get_data(self, command: Command) -> bytes:
        """5C tag: a data object of the file in P1 P2. 70 { 84 reference, A5 { 7F49 80 } }: a public key."""
        if not self._selected:
            raise CardRefusal(Status.NO_INSTRUCTION)
        asked = dict(parse_tlvs(command.data))
        file = command.p1 << 8 | command.p2
        if 0x70 in asked:
            (reference,) = dict(parse_tlvs(asked[0x70])).get(0x84, b"\x00")
            return _public_key(self._key(reference))
        tag = int.from_bytes(asked.get(0x5C, b""), "big")
        if (file, tag) == (APPLICATION, PIN_STATUS):
            return tlv(PIN_STATUS, tlv(0x97, bytes([self._pin.tries])), tlv(0x93, bytes([MAX_TRIES])))
        found = self._objects.get((file, tag))
        if found is None:
            raise CardRefusal(Status.NO_REFERENCE)
        return tlv(tag, found)

    def _verify(self, command: Command) -> bytes:
        """Without data it tells the counter, verified or not; a PIN of a length that cannot be costs no try."""
        if not self._selected:
            raise CardRefusal(Status.NO_INSTRUCTION)
        if command.p1 != 0 or command.p2 not in (USER_PIN, FORGET_ALL):
            raise CardRefusal(Status.NO_REFERENCE)
        if command.p2 == FORGET_ALL:
            self._pin.forget()
            return b""
        possible = SHORTEST <= len(command.data) <= LONGEST
        data = command.data if possible else b""
        return self._pin.verify(Command(command.cla, command.ins, command.p1, command.p2, data, command.length))

    def _manage(self, command: Command) -> bytes:
        """MANAGE SECURITY ENVIRONMENT: SET: 80 mechanism, 84 key reference."""
        found = dict(parse_tlvs(command.data))
        algorithm = ALGORITHMS.get(command.p2)
        if command.p1 != 0x41 or algorithm is None or found.get(0x80) != bytes([algorithm]):
            raise CardRefusal(Status.WRONG_PARAMETERS)
        (reference,) = found.get(0x84, b"\x00")
        self._environment = command.p2, self._key(reference)
        return b""

    def _perform(self, command: Command) -> bytes:
        """PSO: COMPUTE DIGITAL SIGNATURE; DECIPHER, without a padding indicator."""
        self._pin.require()
        if self._environment is None:
            raise CardRefusal(Status.CONDITIONS)
        use, key = self._environment
        if use == SIGN and (command.p1, command.p2) == (0x9E, 0x9A):
            signature = rsa_sign_pkcs1(key, command.data)
            self._report("sign")
            return signature
        if use == DECIPHER and (command.p1, command.p2) == (0x80, 0x86):
            return rsa_decrypt_pkcs1(key, command.data)
        raise CardRefusal(Status.WRONG_PARAMETERS)

    def _key(self, reference: int) -> rsa.RSAPrivateKey:
        if not 0 <= reference - FIRST_KEY < len(self._keys):
            raise CardRefusal(Status.NO_REFERENCE)
        return self._keys[reference - FIRST_KEY]


def _rsa_key(container: FilledContainer) -> rsa.RSAPrivateKey:
    if not isinstance(container.key, rsa.RSAPrivateKey):
        raise ValueError("OpenSC finds RSA keys only on a GIDS card")  # noqa: TRY004 - bad input, told as such
    return container.key


def _public_key(key: rsa.RSAPrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return tlv(0x7F49, tlv(0x81, numbers.n.to_bytes(key_bytes(key), "big")), tlv(0x82, numbers.e.to_bytes(3, "big")))


def _data_objects(serial: str, containers: Sequence[FilledContainer]) -> dict[tuple[int, int], bytes]:
    """Return the data objects by (file, tag). Numbers are little endian, as Windows writes them."""
    certificates = {
        (USER_WRITES, FIRST_CERTIFICATE + index): _compressed(container.certificate)
        for index, container in enumerate(containers)
    }
    records = [
        _record("", "cardid", CARD_ID, ADMIN_WRITES),
        _record("", "cardcf", CACHE_FILE, USER_WRITES),
        _record("mscp", "", 0, USER_DIRECTORY),
        _record("mscp", "cmapfile", CONTAINER_MAP, USER_WRITES),
        *(_record("mscp", f"kxc{index:02X}", tag, file) for index, (file, tag) in enumerate(certificates)),
    ]
    return {
        (USER_DIRECTORY, MASTER_FILE): b"\x01" + b"".join(records),
        (ADMIN_WRITES, CARD_ID): hashlib.sha256(f"sdbox-gids-{serial}".encode()).digest()[:16],
        (USER_WRITES, CACHE_FILE): bytes(6),
        (USER_WRITES, CONTAINER_MAP): b"".join(_entry(index, container) for index, container in enumerate(containers)),
        **certificates,
    }


def _record(folder: str, name: str, tag: int, file: int) -> bytes:
    """One line of the masterfile."""
    return struct.pack("<9s9s2xii", folder.encode(), name.encode(), tag, file)


def _entry(index: int, container: FilledContainer) -> bytes:
    """One line of the container map: a name in UTF-16, flags, size of the signature key, of the exchange key."""
    flags = VALID | (DEFAULT if index == 0 else 0)
    name = container.project[:NAME_LIMIT].encode("utf-16-le")
    return struct.pack("<80sBBHH", name, flags, 0, 0, container.key.key_size)


def _compressed(certificate: bytes) -> bytes:
    """01 00, the size uncompressed, then zlib's format."""
    return struct.pack("<HH", 1, len(certificate)) + zlib.compress(certificate)
