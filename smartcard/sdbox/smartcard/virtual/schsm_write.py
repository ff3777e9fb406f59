"""Writing on the emulated SmartCard-HSM: GENERATE ASYMMETRIC KEY PAIR, UPDATE BINARY (odd INS), DELETE FILE.

As OpenSC's sc-hsm driver sends them (0.23, 0.26). A command is done whole or not at all: what tears is the sequence of
commands, which `sdbox card emulate` can cut after each (`cut N`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sdbox.smartcard.virtual.apdu import Command, Status, word
from sdbox.smartcard.virtual.personalise import CardKey
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

KEY, DESCRIPTION, CERTIFICATE = 0xCC00, 0xC400, 0xCE00
_OFFSET, _DATA = 0x54, 0x53
_PUBLIC_KEY, _POINT, _PRIME, _MODULUS_BITS = 0x7F49, 0x86, 0x81, 0x02
_CURVES: Final[dict[bytes, ec.EllipticCurve]] = {
    bytes.fromhex("FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF"): ec.SECP256R1(),
    bytes.fromhex("FF" * 31 + "FEFFFFFFFF0000000000000000FFFFFFFF"): ec.SECP384R1(),
}
_RSA_BITS: Final = (2048, 3072, 4096)
_LARGEST_FILE: Final = 0xFFFF


@dataclass(frozen=True, slots=True, repr=False)
class Memory:
    """What stays when the power goes: keys by number, files by identifier. No `repr`: it holds keys (S8)."""

    keys: dict[int, CardKey]
    files: dict[int, bytes]


def generate(memory: Memory, command: Command, serial: str) -> bytes:
    """GENERATE ASYMMETRIC KEY PAIR: P1 is the key's number; the answer an authenticated request (BSI TR-03110)."""
    if command.p1 in memory.keys or not command.p1:
        return word(Status.WRONG_PARAMETERS)
    try:
        body = list(parse_tlvs(command.data))
        asked = dict(body)[_PUBLIC_KEY]
        key = _make_key(list(parse_tlvs(asked)))
    except (ValueError, KeyError):
        return word(Status.WRONG_DATA)
    memory.keys[command.p1] = key
    filled = [(tag, _with_public(value, key) if tag == _PUBLIC_KEY else value) for tag, value in body]
    return _request(filled, key, serial) + word(Status.OK)


def update(memory: Memory, command: Command, selected: int | None) -> bytes:
    """UPDATE BINARY: P1-P2 names the file, 0 the selected one; 54 is the offset, 53 the data. Makes a missing file."""
    file = command.p1 << 8 | command.p2 or selected
    try:
        fields = dict(parse_tlvs(command.data))
        offset, data = int.from_bytes(fields[_OFFSET], "big"), fields[_DATA]
    except (ValueError, KeyError):
        return word(Status.WRONG_DATA)
    if file is None or offset + len(data) > _LARGEST_FILE:
        return word(Status.NO_EF)
    old = memory.files.get(file, b"").ljust(offset, b"\0")
    memory.files[file] = old[:offset] + data + old[offset + len(data) :]
    return word(Status.OK)


def delete(memory: Memory, command: Command) -> bytes:
    """DELETE FILE: the data names the file; CCxx is a key."""
    file = int.from_bytes(command.data, "big")
    number = file & 0xFF
    if file & 0xFF00 == KEY and number in memory.keys:
        del memory.keys[number]
    elif memory.files.pop(file, None) is None:
        return word(Status.NOT_FOUND)
    return word(Status.OK)


def _make_key(asked: list[tuple[int, bytes]]) -> CardKey:
    fields = dict(asked)
    if _PRIME in fields and _MODULUS_BITS not in fields:
        return ec.generate_private_key(_CURVES[fields[_PRIME]])
    bits = int.from_bytes(fields[_MODULUS_BITS], "big")
    if bits not in _RSA_BITS:
        raise ValueError("a key size that the card does not make")
    return rsa.generate_private_key(65537, bits)


def _with_public(asked: bytes, key: CardKey) -> bytes:
    fields = list(parse_tlvs(asked))
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n.to_bytes(key.key_size // 8, "big")
        fields = [(0x06, dict(fields)[0x06]), (_PRIME, modulus), (0x82, b"\1\0\1")]
        return b"".join(tlv(tag, value) for tag, value in fields)
    encoding, form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    fields = sorted([*fields, (_POINT, key.public_key().public_bytes(encoding, form))])
    return b"".join(tlv(tag, value) for tag, value in fields)


def _request(body: list[tuple[int, bytes]], key: CardKey, serial: str) -> bytes:
    """Return the request: its own key signs it; the outer signature is by a device key, that nobody here checks."""
    content = tlv(0x7F4E, *(tlv(tag, value) for tag, value in body))
    certificate = tlv(0x7F21, content, tlv(0x5F37, _sign(key, content)))
    device, car = ec.generate_private_key(ec.SECP256R1()), tlv(0x42, serial.encode() + b"00001")
    return tlv(0x67, certificate, car, tlv(0x5F37, _sign(device, certificate + car)))


def _sign(key: CardKey, content: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    size = (key.key_size + 7) // 8
    r, s = utils.decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
