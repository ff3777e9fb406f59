"""Chip Authentication and secure messaging, the card's side (BSI TR-03110-3: A.4, B.3, F; ISO 7816-4, clause 10).

One suite: id-CA-ECDH-AES-CBC-CMAC-128, the only one that OpenSC asks a SmartCard-HSM for. The card proves that it has
its device key by deriving the same session keys; from then on every command and answer is encrypted and authenticated.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from sdbox.smartcard.virtual.apdu import EXTENDED, SHORT, Command
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

CA_ECDH_AES_128: Final = bytes.fromhex("04007F00070202030202")
BLOCK: Final = 16
MAC_SIZE: Final = 8
NONCE_SIZE: Final = 8
ENCRYPTION, AUTHENTICATION = 1, 2  # counters of the key derivation
PROTECTED: Final = 0x0C
ISO_PADDING: Final = b"\x01"
PLAIN_CRYPTOGRAM, PADDED_CRYPTOGRAM, EXPECTED, STATUS, CHECKSUM = 0x85, 0x87, 0x97, 0x99, 0x8E
KNOWN: Final = {PLAIN_CRYPTOGRAM, PADDED_CRYPTOGRAM, EXPECTED}


class ChannelError(Exception):
    """A command is not protected, or not as it should be: the channel is over."""


def pad(data: bytes) -> bytes:
    """Append 80 and zeros up to the next block (ISO 9797-1, method 2)."""
    return data + b"\x80" + bytes(-(len(data) + 1) % BLOCK)


def unpad(data: bytes) -> bytes:
    """Take the padding off; ChannelError if there is none."""
    text = data.rstrip(b"\x00")
    if not text.endswith(b"\x80"):
        raise ChannelError("no padding")
    return text[:-1]


def authenticate_chip(device: ec.EllipticCurvePrivateKey, terminal: bytes) -> tuple[SecureChannel, bytes, bytes]:
    """Return the channel, and nonce and token for the terminal whose ephemeral point is `terminal`.

    ValueError if that is no point of the device key's curve.
    """
    public = ec.EllipticCurvePublicKey.from_encoded_point(device.curve, terminal)
    secret = device.exchange(ec.ECDH(), public)
    nonce = secrets.token_bytes(NONCE_SIZE)
    channel = SecureChannel(_derive(secret, nonce, ENCRYPTION), _derive(secret, nonce, AUTHENTICATION))
    token = channel.checksum(tlv(0x7F49, tlv(0x06, CA_ECDH_AES_128), tlv(0x86, terminal)))
    return channel, nonce, token


def _derive(secret: bytes, nonce: bytes, counter: int) -> bytes:
    """TR-03110-3, A.2.3: SHA-1, cut to 128 bits."""
    return hashlib.sha1(secret + nonce + counter.to_bytes(4, "big")).digest()[:BLOCK]  # noqa: S324 - what it says


class SecureChannel:
    """Session keys and the counter that both sides raise before each command and each answer."""

    def __init__(self, encryption: bytes, authentication: bytes) -> None:
        self._encryption = encryption
        self._authentication = authentication
        self._sequence = 0

    def checksum(self, data: bytes) -> bytes:
        mac = CMAC(algorithms.AES(self._authentication))
        mac.update(data)
        return mac.finalize()[:MAC_SIZE]

    def open(self, command: Command) -> Command:
        """Return the command that a protected one carries; ChannelError if it is not proper."""
        self._sequence += 1
        objects = self._checked(command)
        data = b""
        if cryptogram := objects.get(PLAIN_CRYPTOGRAM) or objects.get(PADDED_CRYPTOGRAM, b"")[1:]:
            data = self._decrypt(cryptogram)
        return replace(command, cla=command.cla & ~PROTECTED, data=data, length=_expected(objects.get(EXPECTED)))

    def close(self, answer: bytes, *, odd: bool) -> bytes:
        """Return `answer` (data and status word) protected; `odd`: to a command with an odd instruction."""
        self._sequence += 1
        data, status = answer[:-2], answer[-2:]
        objects = b""
        if data and odd:
            objects = tlv(PLAIN_CRYPTOGRAM, self._encrypt(data))
        elif data:
            objects = tlv(PADDED_CRYPTOGRAM, ISO_PADDING, self._encrypt(data))
        objects += tlv(STATUS, status)
        return objects + tlv(CHECKSUM, self._sealed(pad(objects))) + status

    def _checked(self, command: Command) -> dict[int, bytes]:
        try:
            objects = list(parse_tlvs(command.data))
        except ValueError as error:
            raise ChannelError("not data objects") from error
        if not objects or objects[-1][0] != CHECKSUM or not {tag for tag, _ in objects[:-1]} <= KNOWN:
            raise ChannelError("data objects are missing or unknown")
        covered = command.data[: -len(tlv(CHECKSUM, objects[-1][1]))]
        header = pad(bytes((command.cla, command.ins, command.p1, command.p2)))
        expected = self._sealed(header + pad(covered) if covered else header)
        if not secrets.compare_digest(expected, objects[-1][1]):
            raise ChannelError("wrong checksum")
        return dict(objects[:-1])

    def _sealed(self, data: bytes) -> bytes:
        return self.checksum(self._sequence.to_bytes(BLOCK, "big") + data)

    def _cipher(self) -> Cipher[modes.CBC]:
        key = algorithms.AES(self._encryption)
        counter = Cipher(key, modes.ECB()).encryptor()  # noqa: S305 - one block: the counter as initialisation vector
        return Cipher(key, modes.CBC(counter.update(self._sequence.to_bytes(BLOCK, "big"))))

    def _encrypt(self, data: bytes) -> bytes:
        return self._cipher().encryptor().update(pad(data))

    def _decrypt(self, cryptogram: bytes) -> bytes:
        if len(cryptogram) % BLOCK:
            raise ChannelError("cryptogram is not whole blocks")
        return unpad(self._cipher().decryptor().update(cryptogram))


def _expected(value: bytes | None) -> int | None:
    if value is None:
        return None
    return int.from_bytes(value, "big") or (SHORT if len(value) == 1 else EXTENDED)
