"""A SmartCard-HSM with a fingerprint sensor on the card: the commands that OpenSC's sc-hsm driver sends (0.23, 0.26).

Emulated is the plain type (its ATR decides): login is VERIFY 81, and the mere presence of reference 85 makes OpenSC
announce CKF_PROTECTED_AUTHENTICATION_PATH. Left out: SO-PIN, device authentication, secure messaging.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from sdbox.smartcard.virtual.apdu import TRIES_LEFT, Command, Status, parse_command, word
from sdbox.smartcard.virtual.personalise import CardKey, FilledContainer
from sdbox.smartcard.virtual.schsm_sign import sign
from sdbox.smartcard.virtual.schsm_write import Memory, delete, generate, update
from sdbox.smartcard.virtual.sensor import Capture, Report, Sensor
from sdbox.smartcard.virtual.soc_manager import AID as SOC_MANAGER
from sdbox.smartcard.virtual.soc_manager import SocManager
from sdbox.smartcard.virtual.tlv import tlv
from sdbox.smartcard.virtual.tries import Tries

ATR: Final = bytes.fromhex("3BFE1800008131FE45803181544853434D31738021408107FA")  # SmartCard-HSM, contact, T=1
AID: Final = bytes.fromhex("E82B0601040181C31F0201")
PROPRIETARY: Final = bytes.fromhex("0000FF0305")  # no options, platform, version 3.5
USER_PIN, SO_PIN, FINGER = 0x81, 0x88, 0x85
CVC_ECDSA_SHA256: Final = bytes.fromhex("04007F00070202020203")

Handler = Callable[[Command], bytes]


class ScHsmCard:
    """The card. Its files, keys and retry counter stay when the power goes; selection and login do not."""

    atr: bytes = ATR

    def __init__(self, serial: str, containers: Sequence[FilledContainer], sensor: Sensor, report: Report) -> None:
        self.sensor = sensor
        self._tries = Tries(report)
        self._manager = SocManager(sensor, self._tries, report)
        self._managing = False
        self._report = report
        self._pin = secrets.token_bytes(8)  # shares the counter with the finger; nobody knows it
        self._serial = f"SDB{serial}"
        self._keys: dict[int, CardKey] = {}
        self._files = {0x2F02: _device_certificate(f"SDB{serial}"), 0x2F03: _token_information(f"SDB{serial}")}
        for index, container in enumerate(containers, 1):
            self._put(index, container)
        self._handlers: dict[int, Handler] = {
            0xA4: self._select_file,
            0xB1: self._read,
            0x58: self._enumerate,
            0x20: self._verify,
            0x68: self._sign,
            0x84: self._challenge,
            **dict.fromkeys((0x46, 0xD7, 0xE4), self._write),
        }
        self.power()

    def power(self) -> None:
        self._selected = self._managing = False
        self._manager.power()
        self._user_ok = False
        self._file: int | None = None

    def pulled(self) -> None:
        self.sensor.cancel()

    def block(self) -> None:
        """Bring the counter to zero, as three wrong fingers would."""
        self._tries.left = 0

    def process(self, apdu: bytes) -> bytes:
        try:
            command = parse_command(apdu)
        except ValueError:
            return word(Status.WRONG_LENGTH)
        return self.obey(command)

    def obey(self, command: Command) -> bytes:
        """Answer a command that came in the clear, or out of a secure channel."""
        if command.cla not in (0x00, 0x80):
            return word(Status.NO_CLASS)  # also FF CA: an answer would mean "contactless" to OpenSC
        if command.ins == 0xA4 and command.p1 == 0x04:
            return self._select_applet(command)
        if self._managing:
            return self._manager.process(command)
        handler = self._handlers.get(command.ins)
        return handler(command) if handler and self._selected else word(Status.NO_INSTRUCTION)

    def _put(self, index: int, container: FilledContainer) -> None:
        self._keys[index] = container.key
        self._files[0xC400 + index] = _key_description(container.label, bytes([index]), container.key)
        self._files[0xCE00 + index] = container.certificate

    def _select_applet(self, command: Command) -> bytes:
        self.power()  # selecting anew ends the login: what OpenSC before 0.24 did at C_Logout
        if command.data == SOC_MANAGER:
            self._managing = True
            return word(Status.OK)
        if command.data != AID:
            return word(Status.NOT_FOUND)
        self._selected = True
        control = tlv(0x6F, tlv(0x82, b"\x78"), tlv(0x84, AID), tlv(0x85, PROPRIETARY))
        return (control if command.length else b"") + word(Status.OK)

    def _select_file(self, command: Command) -> bytes:
        file = int.from_bytes(command.data, "big")
        if file not in self._files:
            return word(Status.NOT_FOUND)
        self._file = file
        control = tlv(0x62, tlv(0x80, word(len(self._files[file]))), tlv(0x82, b"\x01"), tlv(0x83, command.data))
        return (control if command.length else b"") + word(Status.OK)

    def _read(self, command: Command) -> bytes:
        """READ BINARY, odd INS: data object 54 is the offset. OpenSC reads on until 6282."""
        content = self._files.get(self._file or 0)
        if content is None or command.data[:2] != b"\x54\x02":
            return word(Status.NO_EF)
        offset = int.from_bytes(command.data[2:4], "big")
        part = content[offset : offset + (command.length or 0)]
        return part + word(Status.OK if len(part) == command.length else Status.END_REACHED)

    def _enumerate(self, _command: Command) -> bytes:
        files = [0xCC00, *(0xCC00 + index for index in self._keys), *(file for file in self._files if file >= 0xC000)]
        return b"".join(word(file) for file in files) + word(Status.OK)

    def _challenge(self, command: Command) -> bytes:
        """GET CHALLENGE (ISO 7816-4, 11.5.3): C_GenerateRandom of OpenSC."""
        return secrets.token_bytes(command.length or 0) + word(Status.OK)

    def _verify(self, command: Command) -> bytes:
        """Reference 81 without Lc and Le asks for the counter; with Le only, the sensor decides; with data, the PIN."""
        if command.p2 == SO_PIN:
            return word(TRIES_LEFT | 15)
        if command.p2 == FINGER:
            return word(Status.NO_REFERENCE) if self.sensor.enrolled is None else self._counter()
        if command.p2 != USER_PIN:
            return word(Status.NO_REFERENCE)
        if command.data:
            return self._count(match=secrets.compare_digest(command.data, self._pin))
        return self._counter() if command.length is None else self._finger()

    def _counter(self) -> bytes:
        if self._user_ok:
            return word(Status.OK)
        return self._tries.answer()

    def _finger(self) -> bytes:
        if not self._tries.left:
            return word(Status.BLOCKED)
        if self.sensor.enrolled is None:
            return word(Status.NO_REFERENCE)
        capture = self.sensor.capture()
        if capture is Capture.TIMEOUT:
            return word(Status.NO_TOUCH)  # no try lost
        return self._count(match=capture is Capture.MATCH)

    def _count(self, *, match: bool) -> bytes:
        self._user_ok = self._tries.compared(match=match)
        return self._counter()

    def _write(self, command: Command) -> bytes:
        if not self._user_ok:
            return word(Status.NOT_ALLOWED)
        memory = Memory(self._keys, self._files)
        self._report("write")
        match command.ins:
            case 0x46:
                return generate(memory, command, self._serial)
            case 0xD7:
                answer = update(memory, command, self._file)
                self._file = command.p1 << 8 | command.p2 or self._file
                return answer
        return delete(memory, command)

    def _sign(self, command: Command) -> bytes:
        """80 68 key algorithm."""
        if not self._user_ok:
            return word(Status.NOT_ALLOWED)
        key = self._keys.get(command.p1)
        if key is None:
            return word(Status.WRONG_PARAMETERS)
        try:
            signature = sign(key, command.p2, command.data)
        except ValueError:
            return word(Status.WRONG_DATA)
        self._report("sign")
        return signature + word(Status.OK)


def _device_certificate(serial: str) -> bytes:
    """EF.C_DevAut, a card-verifiable certificate: OpenSC takes the holder less its last 5 characters as the serial."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    public = tlv(0x7F49, tlv(0x06, CVC_ECDSA_SHA256), tlv(0x86, point))
    holder = tlv(0x5F20, serial.encode() + b"00001")
    body = tlv(0x7F4E, tlv(0x5F29, b"\x00"), tlv(0x42, b"DESDBOXCA00001"), public, holder)
    r, s = utils.decode_dss_signature(key.sign(body, ec.ECDSA(hashes.SHA256())))
    return tlv(0x7F21, body, tlv(0x5F37, r.to_bytes(32, "big") + s.to_bytes(32, "big")))


def _token_information(serial: str) -> bytes:
    """EF.TokenInfo (ISO 7816-15, clause 8.10)."""
    return tlv(0x30, tlv(0x02, b"\x01"), tlv(0x0C, b"SD-Box"), tlv(0x80, serial.encode()), tlv(0x03, b"\x04\x30"))


def _key_description(label: bytes, identifier: bytes, key: CardKey) -> bytes:
    """EF.PrKD (ISO 7816-15, clause 8.4): an EC or RSA key, usage sign."""
    common = tlv(0x30, tlv(0x0C, label))
    usage = tlv(0x30, tlv(0x04, identifier), tlv(0x03, b"\x05\x20"))
    size = tlv(0xA1, tlv(0x30, tlv(0x30, tlv(0x04, b"")), tlv(0x02, key.key_size.to_bytes(2, "big"))))
    return tlv(0x30 if isinstance(key, rsa.RSAPrivateKey) else 0xA0, common, usage, size)
