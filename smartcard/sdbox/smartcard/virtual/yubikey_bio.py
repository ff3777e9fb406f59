"""A YubiKey Bio: a PIV card whose keys a finger on its own sensor opens. What ykcs11 2.7 sends to one.

Yubico's extensions to PIV (yubico-piv-tool 2.7.1, lib/ykpiv.c): GET VERSION, GET SERIAL, GET METADATA, ATTEST, and
VERIFY 96: data 03 00 reads a finger, 02 00 reads one and hands out a temporary PIN, 01 10 and that PIN saves a finger;
no data asks for the counter. Left out: generated keys (so nothing to attest), management, the other applications.
Not known of real ones: the status word when nobody touches the sensor.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.smartcard.virtual.apdu import TRIES_LEFT, Command, Status, word
from sdbox.smartcard.virtual.keys import public_point
from sdbox.smartcard.virtual.personalise import CardKey, FilledContainer
from sdbox.smartcard.virtual.piv import AID, ALGORITHMS, PivCard
from sdbox.smartcard.virtual.piv_references import MAX_TRIES, PIN, PRIMARY_FINGER, PinReference
from sdbox.smartcard.virtual.sensor import Capture, Report, Sensor
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ATR: Final = bytes.fromhex("3BFD1300008131FE158073C021C057597562694B657940")  # a YubiKey 5's too
VERSION: Final = bytes((5, 6, 1))
SHORT_AID: Final = AID[:5]  # ykcs11 selects by the first five bytes
MATCH_ONCE, NEVER_TOUCH, IMPORTED = 0x04, 0x01, 0x02
TEMPORARY_PIN, ASK_TEMPORARY_PIN, ASK_FINGER = 0x01, 0x02, 0x03
TEMPORARY_PIN_SIZE: Final = 16


class YubiKeyBio(PivCard):
    """The key. The PIN exists, and the box never uses it; finger and PIN have a counter each."""

    def __init__(
        self, serial: str, containers: Sequence[FilledContainer], pin: bytes, sensor: Sensor, report: Report
    ) -> None:
        self._serial = int(serial)
        self._sensor = sensor
        self._finger_tries = MAX_TRIES
        super().__init__(serial, containers, {PIN: PinReference(pin)}, report, atr=ATR)
        self._handlers |= {
            0xFD: lambda command: self._send(VERSION, command.length),
            0xF8: lambda command: self._send(self._serial.to_bytes(4, "big"), command.length),
            0xF7: self._metadata,
            0xF9: lambda _command: word(Status.WRONG_DATA),  # ATTEST: only of keys that the card made
        }

    def power(self) -> None:
        super().power()
        self._temporary_pin: bytes | None = None

    def pulled(self) -> None:
        self._sensor.cancel()

    def block(self) -> None:
        super().block()
        self._finger_tries = 0

    def _select(self, command: Command) -> bytes:
        whole = Command(command.cla, command.ins, command.p1, command.p2, AID, command.length)
        return super()._select(whole if command.data == SHORT_AID else command)

    def _verify(self, command: Command) -> bytes:
        if command.p2 != PRIMARY_FINGER:
            return super()._verify(command)
        if not command.data:
            return word(Status.OK) if PRIMARY_FINGER in self._open else self._finger_counter()
        try:
            ((tag, value),) = parse_tlvs(command.data)
        except ValueError:
            return word(Status.WRONG_DATA)
        if tag == TEMPORARY_PIN:
            return self._compare_temporary(value)
        if tag in (ASK_FINGER, ASK_TEMPORARY_PIN) and not value:
            return self._read_finger(command, temporary_pin=tag == ASK_TEMPORARY_PIN)
        return word(Status.WRONG_DATA)

    def _read_finger(self, command: Command, *, temporary_pin: bool) -> bytes:
        self._open.discard(PRIMARY_FINGER)
        if not self._finger_tries:
            return word(Status.BLOCKED)
        capture = self._sensor.capture()
        if capture is Capture.TIMEOUT:
            return word(Status.NO_TOUCH)
        same = capture is Capture.MATCH
        self._finger_tries = MAX_TRIES if same else self._finger_tries - 1
        self._report(f"verify tries={self._finger_tries}")
        if not same:
            return self._finger_counter()
        self._open.add(PRIMARY_FINGER)
        if not temporary_pin:
            return word(Status.OK)
        self._temporary_pin = secrets.token_bytes(TEMPORARY_PIN_SIZE)
        return self._send(self._temporary_pin, command.length)

    def _compare_temporary(self, value: bytes) -> bytes:
        """A temporary PIN is good for one attempt."""
        expected, self._temporary_pin = self._temporary_pin, None
        self._open.discard(PRIMARY_FINGER)
        if expected is None or not secrets.compare_digest(expected, value):
            return word(Status.NOT_ALLOWED)
        self._open.add(PRIMARY_FINGER)
        return word(Status.OK)

    def _finger_counter(self) -> bytes:
        return word(TRIES_LEFT | self._finger_tries if self._finger_tries else Status.BLOCKED)

    def _metadata(self, command: Command) -> bytes:
        if command.p2 == PRIMARY_FINGER:
            told = tlv(0x07, b"\x01") + tlv(0x06, bytes([self._finger_tries])) + tlv(0x08, b"\x00")
            return self._send(told, command.length)
        if command.p2 == PIN:
            tries = bytes((MAX_TRIES, self._references[PIN].tries))
            return self._send(tlv(0x01, b"\xff") + tlv(0x05, b"\x00") + tlv(0x06, tries), command.length)
        key = self._keys.get(command.p2)
        return word(Status.NO_REFERENCE) if key is None else self._send(_key_metadata(key), command.length)


def _key_metadata(key: CardKey) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        public = tlv(0x81, numbers.n.to_bytes(key.key_size // 8, "big")) + tlv(0x82, b"\x01\x00\x01")
        algorithm = ALGORITHMS["rsa"]
    else:
        public, algorithm = tlv(0x86, public_point(key)), ALGORITHMS[key.curve.name]
    policy = tlv(0x02, bytes((MATCH_ONCE, NEVER_TOUCH)))
    return tlv(0x01, bytes([algorithm])) + policy + tlv(0x03, bytes([IMPORTED])) + tlv(0x04, public)
