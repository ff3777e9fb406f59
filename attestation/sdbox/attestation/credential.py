"""TPM2_MakeCredential in software: a secret only the TPM with this EK and this AK can open (TPM 2.0 part 1, 24)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from sdbox.attestation.structures import name_of
from sdbox.attestation.templates import EK_TEMPLATE

EkPublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
SECRET_SIZE = 32
_IDENTITY = b"IDENTITY\0"


@dataclass(frozen=True, slots=True)
class _Template:
    """What the TCG EK Credential Profile 2.5 (B.3, B.4) fixes for a kind of EK: name hash and AES key bits."""

    hash: hashes.HashAlgorithm
    aes_bits: int


_LOW = _Template(hashes.SHA256(), 128)  # RSA 2048 (L-1), P-256 (L-2)
_HIGH = _Template(hashes.SHA384(), 256)  # P-384 (H-3), RSA 3072 (H-6)


def make_credential(ek: EkPublicKey, ak_name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return (TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET), sizes included. ValueError: secret of another size than 32."""
    if len(secret) != SECRET_SIZE:
        raise ValueError(f"the secret has {SECRET_SIZE} bytes")
    template = _template(ek)
    seed, encrypted_seed = _share_seed(ek, template)
    cipher = Cipher(AES(_kdfa(template, seed, b"STORAGE", (ak_name, template.aes_bits))), CFB(bytes(16))).encryptor()
    identity = cipher.update(_sized(secret)) + cipher.finalize()
    digest_bits = 8 * template.hash.digest_size
    mac = hmac.HMAC(_kdfa(template, seed, b"INTEGRITY", (b"", digest_bits)), template.hash)
    mac.update(identity + ak_name)
    return _sized(_sized(mac.finalize()) + identity), _sized(encrypted_seed)


def default_ek_name(ek: EkPublicKey) -> bytes:
    """Return the Name of the EK of the TCG default template for RSA 2048 (L-1) that has this public key.

    ValueError if none can have it. The template fixes everything of the public area but the modulus.
    """
    if not isinstance(ek, rsa.RSAPublicKey) or (ek.key_size, ek.public_numbers().e) != (2048, 65537):
        raise ValueError("not the key of the TCG default template for RSA 2048")
    size = ek.key_size // 8
    return name_of(EK_TEMPLATE[:-size] + ek.public_numbers().n.to_bytes(size, "big"))


def _template(ek: EkPublicKey) -> _Template:
    return _LOW if ek.key_size in {256, 2048} else _HIGH


def _share_seed(ek: EkPublicKey, template: _Template) -> tuple[bytes, bytes]:
    """Return the seed and how it travels: OAEP for RSA (annex B.10.4), one-pass Diffie-Hellman for ECC (C.6.4)."""
    if isinstance(ek, rsa.RSAPublicKey):
        seed = os.urandom(template.hash.digest_size)
        return seed, ek.encrypt(seed, padding.OAEP(padding.MGF1(template.hash), template.hash, _IDENTITY))
    ephemeral = ec.generate_private_key(ek.curve)
    shared = ephemeral.exchange(ec.ECDH(), ek)
    (ours_x, ours_y), (theirs_x, _) = _coordinates(ephemeral.public_key()), _coordinates(ek)
    info = _IDENTITY + ours_x + theirs_x
    seed = ConcatKDFHash(template.hash, template.hash.digest_size, info).derive(shared)
    return seed, _sized(ours_x) + _sized(ours_y)


def _coordinates(key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    numbers, size = key.public_numbers(), (key.key_size + 7) // 8
    return numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")


def _kdfa(template: _Template, key: bytes, label: bytes, use: tuple[bytes, int]) -> bytes:
    """KDFa (part 1, 11.4.10.2) is SP 800-108 in counter mode. `use` is its context and the number of bits wanted."""
    context, bits = use
    place = CounterLocation.BeforeFixed
    kdf = KBKDFHMAC(template.hash, Mode.CounterMode, bits // 8, 4, 4, place, label, context, None)
    return kdf.derive(key)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
