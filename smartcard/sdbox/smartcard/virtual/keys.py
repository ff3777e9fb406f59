"""What the key pairs of emulated cards can do, in the forms that cards answer: raw RSA, ECDSA, ECDH, public points."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sdbox.smartcard.virtual.personalise import CardKey

PKCS1_LEAST: Final = 11  # 00 01 FF x 8 00 (RFC 8017, 9.2); decryption: 00 02 and 8 random bytes (7.2.1)
HASH_OF_SIZE: Final[dict[int, hashes.HashAlgorithm]] = {
    32: hashes.SHA256(),
    48: hashes.SHA384(),
    64: hashes.SHA512(),
}


def key_bytes(key: CardKey) -> int:
    """Return the size of a modulus, or of a coordinate, in bytes."""
    return (key.key_size + 7) // 8


def rsa_raw(key: rsa.RSAPrivateKey, block: bytes) -> bytes:
    """Return block^d mod n, as long as the modulus; ValueError if the block is not smaller than the modulus."""
    numbers = key.private_numbers()
    modulus, value = numbers.public_numbers.n, int.from_bytes(block, "big")
    if value >= modulus:
        raise ValueError("the block is not smaller than the modulus")
    return pow(value, numbers.d, modulus).to_bytes(key_bytes(key), "big")


def rsa_sign_pkcs1(key: rsa.RSAPrivateKey, content: bytes) -> bytes:
    """Pad with type 1 and sign what the host made, a DigestInfo as a rule; ValueError if it is too long."""
    room = key_bytes(key) - len(content) - 3
    if room < PKCS1_LEAST - 3:
        raise ValueError("too long for this key")
    return rsa_raw(key, b"\x00\x01" + room * b"\xff" + b"\x00" + content)


def rsa_sign_pss(key: rsa.RSAPrivateKey, digest: bytes) -> bytes:
    """Pad a SHA-2 digest as PSS with a salt of its size (RFC 8017, 8.1) and sign; ValueError for another size."""
    algorithm = HASH_OF_SIZE.get(len(digest))
    if algorithm is None:
        raise ValueError("not a digest")
    return key.sign(digest, padding.PSS(padding.MGF1(algorithm), len(digest)), utils.Prehashed(algorithm))


def rsa_decrypt_pkcs1(key: rsa.RSAPrivateKey, cryptogram: bytes) -> bytes:
    """Decrypt and take the padding of type 2 away; ValueError if there is none."""
    block = rsa_raw(key, cryptogram)
    end = block.find(b"\x00", 2)
    if block[:2] != b"\x00\x02" or end < PKCS1_LEAST - 1:
        raise ValueError("no PKCS#1 padding")
    return block[end + 1 :]


def ecdsa_der(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """Sign a digest of any length, cut or filled to the curve's size (FIPS 186-5, 6.4.1). DER."""
    size = key_bytes(key)
    whole = digest[:size].rjust(size, b"\x00")
    return key.sign(whole, ec.ECDSA(utils.Prehashed(HASH_OF_SIZE[size])))


def ecdsa_plain(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """Sign like `ecdsa_der`; r and s side by side."""
    r, s = utils.decode_dss_signature(ecdsa_der(key, digest))
    return r.to_bytes(key_bytes(key), "big") + s.to_bytes(key_bytes(key), "big")


def ecdh(key: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    """Return the x coordinate shared with an uncompressed `point`; ValueError if it is not on the curve."""
    return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point))


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the uncompressed point (SEC 1, 2.3.3)."""
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
