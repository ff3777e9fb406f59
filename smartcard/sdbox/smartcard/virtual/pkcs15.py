"""The directory files of a PKCS#15 card (ISO 7816-15): what OpenSC reads to find PIN, keys and certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.smartcard.virtual.personalise import FilledContainer
from sdbox.smartcard.virtual.tlv import tlv

AID: Final = bytes.fromhex("A000000063504B43532D3135")
FOLDER: Final = "3F005015"
SEQUENCE, INTEGER, BITS, OCTETS, OBJECT, TEXT, ENUMERATED = 0x30, 0x02, 0x03, 0x04, 0x06, 0x0C, 0x0A
PRIVATE_MODIFIABLE, MODIFIABLE = 0xC0, 0x40
SIGN, SIGN_DECRYPT = 0x20, 0x64  # key usage: sign; sign, decrypt, unwrap
ACCESS: Final = 0xB8  # sensitive, always sensitive, never extractable, local
ASCII: Final = 1
AUTH_ID: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class PinRules:
    """How the card wants its PIN. `flags` (8.9.2): 0x80 case-sensitive, 0x40 local, 0x08 initialised, 0x04 padded."""

    reference: int
    flags: int
    shortest: int
    stored: int
    padding: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What differs from card to card; `certificates` is the file that lists them."""

    label: str
    pin: PinRules
    certificates: str = "4404"
    by_name: bool = False  # the application is known by its name only: no path leads to it or begins before it
    algorithms: bytes = b""  # supportedAlgorithms of EF.TokenInfo, where the card has its own names for them


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a container lies: the card's key reference, the key's path and the certificate's, in hex."""

    reference: int
    key: str
    certificate: str


def bits(value: int) -> bytes:
    """Return a BIT STRING of the eight bits of `value`, the last zeros left out."""
    unused = (value & -value).bit_length() - 1 if value else 0
    return tlv(BITS, bytes([unused, value]))


def integer(value: int) -> bytes:
    """Return a non-negative INTEGER."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def path_of(text: str) -> bytes:
    return tlv(SEQUENCE, tlv(OCTETS, bytes.fromhex(text)))


def directory(
    layout: Layout, serial: str, containers: Sequence[FilledContainer], places: Sequence[KeyPlace]
) -> dict[str, bytes]:
    """Return EF.DIR and the files of the application's folder, by path. `serial` is in hex."""
    pairs = list(zip(containers, places, strict=False))
    start = "" if layout.by_name else FOLDER
    way = b"" if layout.by_name else tlv(0x51, bytes.fromhex(FOLDER))
    lists = ((0xA8, "4401"), (0xA0, "4402"), (0xA4, layout.certificates))
    return {
        "3F002F00": tlv(0x61, tlv(0x4F, AID), tlv(0x50, layout.label.encode()), way),
        f"{FOLDER}5031": b"".join(tlv(tag, path_of(start + file)) for tag, file in lists),
        f"{FOLDER}5032": _token_information(layout, serial),
        f"{FOLDER}4401": _pin(layout),
        f"{FOLDER}4402": b"".join(_private_key(index, *pair) for index, pair in enumerate(pairs, 1)),
        f"{FOLDER}{layout.certificates}": b"".join(_certificate(index, *pair) for index, pair in enumerate(pairs, 1)),
        **{FOLDER + place.certificate.removeprefix(FOLDER): container.certificate for container, place in pairs},
    }


def _token_information(layout: Layout, serial: str) -> bytes:
    """EF.TokenInfo (8.10)."""
    names = tlv(TEXT, b"SD-Box"), tlv(0x80, layout.label.encode())
    return tlv(SEQUENCE, integer(0), tlv(OCTETS, bytes.fromhex(serial)), *names, bits(0x20), layout.algorithms)


def _common(label: bytes, flags: int) -> tuple[bytes, ...]:
    return (tlv(TEXT, label), bits(flags))


def _pin(layout: Layout) -> bytes:
    """EF.AOD (8.9.2)."""
    pin = layout.pin
    attributes = tlv(
        SEQUENCE,
        bits(pin.flags),
        tlv(ENUMERATED, bytes([ASCII])),
        integer(pin.shortest),
        integer(pin.stored),
        integer(pin.stored),
        tlv(0x80, bytes([pin.reference])),
        tlv(OCTETS, bytes([pin.padding])),
        b"" if layout.by_name else path_of(FOLDER),
    )
    name = tlv(SEQUENCE, *_common(b"User PIN", PRIVATE_MODIFIABLE))
    return tlv(SEQUENCE, name, tlv(SEQUENCE, tlv(OCTETS, AUTH_ID)), tlv(0xA1, attributes))


def _private_key(index: int, container: FilledContainer, place: KeyPlace) -> bytes:
    """EF.PrKD (8.4): a SEQUENCE for RSA, [0] for EC."""
    is_rsa = isinstance(container.key, rsa.RSAPrivateKey)
    name = tlv(SEQUENCE, *_common(container.label, PRIVATE_MODIFIABLE), tlv(OCTETS, AUTH_ID))
    usage = bits(SIGN_DECRYPT if is_rsa else SIGN)
    key = tlv(SEQUENCE, tlv(OCTETS, bytes([index])), usage, bits(ACCESS), integer(place.reference))
    value = tlv(0xA1, tlv(SEQUENCE, path_of(place.key), integer(container.key.key_size)))
    return tlv(SEQUENCE if is_rsa else 0xA0, name, key, value)


def _certificate(index: int, container: FilledContainer, place: KeyPlace) -> bytes:
    """EF.CD (8.7): the certificate has its key's identifier."""
    name = tlv(SEQUENCE, *_common(container.label, MODIFIABLE))
    value = tlv(0xA1, tlv(SEQUENCE, path_of(place.certificate)))
    return tlv(SEQUENCE, name, tlv(SEQUENCE, tlv(OCTETS, bytes([index]))), value)
