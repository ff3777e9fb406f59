"""The signature of the UKI: accepted by an independent verifier, deterministic, and only over what it was made for."""

from __future__ import annotations

import datetime as dt
import struct
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7 as reader
from cryptography.x509.oid import NameOID

from sdbox.boot.authenticode import authenticode_sha256
from sdbox.image.authenticode import sign_file, sign_pe
from sdbox.image.der import integer, oid
from sdbox.image.request import BadRequestError, ImageError, SigningKey

KEY = rsa.generate_private_key(65537, 2048)


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test db")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + dt.timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


CERTIFICATE = _certificate(KEY)


def _pe(body: bytes = b"code") -> bytes:
    """A PE32+ file with one section of 512 bytes."""
    head = bytearray(512)
    head[:2], head[0x80:0x84] = b"MZ", b"PE\0\0"
    struct.pack_into("<I", head, 0x3C, 0x80)
    struct.pack_into("<HHIIIHH", head, 0x84, 0x8664, 1, 0, 0, 0, 240, 0x22)
    struct.pack_into("<H", head, 0x98, 0x20B)
    struct.pack_into("<II", head, 0x98 + 32, 4096, 512)  # alignments
    struct.pack_into("<II", head, 0x98 + 56, 8192, 512)  # size of image, of headers
    struct.pack_into("<I", head, 0x98 + 108, 16)
    struct.pack_into("<8sIIII12xI", head, 0x188, b".text", 512, 4096, 512, 512, 0x60000020)
    return bytes(head) + body.ljust(512, b"\0")


def test_signing_twice_gives_the_same_bytes() -> None:
    assert sign_pe(_pe(), KEY, CERTIFICATE) == sign_pe(_pe(), KEY, CERTIFICATE)


def test_the_signature_is_outside_of_what_is_hashed() -> None:
    signed = sign_pe(_pe(), KEY, CERTIFICATE)
    assert authenticode_sha256(signed) == authenticode_sha256(_pe())
    assert authenticode_sha256(_pe()) in signed
    assert authenticode_sha256(_pe(b"other")) not in signed


def test_the_certificate_table_is_found_by_the_directory() -> None:
    signed = sign_pe(_pe(), KEY, CERTIFICATE)
    offset, size = struct.unpack_from("<II", signed, 0x98 + 112 + 32)
    assert offset + size == len(signed)
    assert offset % 8 == 0
    assert struct.unpack_from("<IHH", signed, offset) == (size, 0x0200, 0x0002)
    assert reader.load_der_pkcs7_certificates(_strip(signed[offset + 8 :])) == [CERTIFICATE]


def _strip(padded: bytes) -> bytes:
    return padded[: 4 + int.from_bytes(padded[2:4], "big")]


def test_a_signed_or_foreign_file_is_refused() -> None:
    with pytest.raises(ImageError, match="already"):
        sign_pe(sign_pe(_pe(), KEY, CERTIFICATE), KEY, CERTIFICATE)
    with pytest.raises(ImageError, match="PE"):
        sign_pe(b"#!/bin/sh" * 100, KEY, CERTIFICATE)


def test_a_key_that_is_not_the_certificates_is_refused(tmp_path: Path) -> None:
    key = SigningKey.named(tmp_path, "db")
    other = rsa.generate_private_key(65537, 2048)
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.key.write_bytes(other.private_bytes(serialization.Encoding.PEM, form, none))
    key.certificate.write_bytes(CERTIFICATE.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "in.efi").write_bytes(_pe())
    with pytest.raises(BadRequestError, match="not that of its certificate"):
        sign_file(tmp_path / "in.efi", key, tmp_path / "out.efi")


def test_der_of_known_values() -> None:
    assert integer(128).hex() == "02020080"
    assert integer(0).hex() == "020100"
    assert oid("1.2.840.113549.1.7.2").hex() == "06092a864886f70d010702"
