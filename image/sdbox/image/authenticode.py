"""Authenticode signature of a PE file, byte for byte the same every time.

sbsign and systemd-sbsign put the time of signing into the signature, so two builds would differ. The structure is that
of Microsoft's "Windows Authenticode Portable Executable Signature Format", which UEFI 2.10, 32.2.4 requires: a PKCS #7
SignedData (RFC 2315) over SpcIndirectDataContent, with the two attributes that RFC 2315, 9.2 makes mandatory.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sdbox.boot.authenticode import authenticode_sha256
from sdbox.boot.pe import PeError, parse_pe
from sdbox.image.der import context, integer, null, octets, oid, sequence, set_of
from sdbox.image.request import BadRequestError, ImageError, SigningKey

CERTIFICATE_HEADER = struct.Struct("<IHH")  # WIN_CERTIFICATE: length, revision, type
REVISION_2, PKCS_SIGNED_DATA = 0x0200, 0x0002
ALIGNMENT = 8

SIGNED_DATA, CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
SPC_INDIRECT_DATA, SPC_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.4", "1.3.6.1.4.1.311.2.1.15"
SHA256 = sequence(oid("2.16.840.1.101.3.4.2.1"), null())
RSA = sequence(oid("1.2.840.113549.1.1.1"), null())
PE_IMAGE_DATA = bytes.fromhex("3009030100a004a2028000")  # no flags, no file name


def sign_pe(image: bytes, key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    """Return `image`, a PE32+ file without signature, signed; ImageError if it is something else."""
    padded = image + bytes(-len(image) % ALIGNMENT)
    entry = _security_entry(padded)
    signature = pkcs7(authenticode_sha256(padded), key, certificate)
    signature += bytes(-len(signature) % ALIGNMENT)
    size = CERTIFICATE_HEADER.size + len(signature)
    signed = bytearray(padded + CERTIFICATE_HEADER.pack(size, REVISION_2, PKCS_SIGNED_DATA) + signature)
    struct.pack_into("<II", signed, entry, len(padded), size)
    return bytes(signed)


def sign_file(unsigned: Path, key: SigningKey, output: Path) -> None:
    """Write `unsigned` signed with `key`; BadRequestError if the key or certificate can not be used."""
    try:
        private = serialization.load_pem_private_key(key.key.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(key.certificate.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise BadRequestError(f"Secure Boot key {key.key}: no readable PEM key and certificate") from error
    if not isinstance(private, rsa.RSAPrivateKey) or private.public_key() != certificate.public_key():
        raise BadRequestError(f"Secure Boot key {key.key}: not an RSA key, or not that of its certificate")
    output.write_bytes(sign_pe(unsigned.read_bytes(), private, certificate))


def _security_entry(image: bytes) -> int:
    """Return the offset of the empty security entry of the data directory."""
    try:
        parsed = parse_pe(image)
    except PeError as error:
        raise ImageError(f"not a PE file that can be signed: {error}") from error
    if parsed.certificates[1] != 0:
        raise ImageError("the PE file is signed already")
    return parsed.security_at


def pkcs7(digest: bytes, key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    """Return the signature as a PKCS #7 ContentInfo, DER."""
    content = sequence(sequence(oid(SPC_PE_IMAGE_DATA), PE_IMAGE_DATA), sequence(SHA256, octets(digest)))
    signed = sequence(
        integer(1),
        set_of(SHA256),
        sequence(oid(SPC_INDIRECT_DATA), context(0, content)),
        context(0, certificate.public_bytes(serialization.Encoding.DER)),
        set_of(_signer_info(content, key, certificate)),
    )
    return sequence(oid(SIGNED_DATA), context(0, signed))


def _signer_info(content: bytes, key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    inner = content[2 + (content[1] & 0x7F if content[1] & 0x80 else 0) :]  # the digest leaves out tag and length
    attributes = (
        sequence(oid(CONTENT_TYPE), set_of(oid(SPC_INDIRECT_DATA))),
        sequence(oid(MESSAGE_DIGEST), set_of(octets(hashlib.sha256(inner).digest()))),
    )
    signature = key.sign(set_of(*attributes), padding.PKCS1v15(), hashes.SHA256())
    issuer = sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number))
    return sequence(integer(1), issuer, SHA256, context(0, *sorted(attributes)), RSA, octets(signature))
