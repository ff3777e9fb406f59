"""SIGN of the SmartCard-HSM: what P2 means (OpenSC 0.26, libopensc/card-sc-hsm.h)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sdbox.smartcard.virtual.keys import HASH_OF_SIZE, ecdsa_der, rsa_raw, rsa_sign_pkcs1
from sdbox.smartcard.virtual.personalise import CardKey

RSA_RAW, RSA_PKCS1, RSA_PSS, ECDSA = 0x20, 0x30, 0x40, 0x70  # padded or hashed outside
HASHES: Final[dict[int, hashes.HashAlgorithm]] = {3: hashes.SHA256(), 4: hashes.SHA384(), 5: hashes.SHA512()}
KIND, HASH = 0xF0, 0x0F


def sign(key: CardKey, algorithm: int, content: bytes) -> bytes:
    """Return the signature, an ECDSA one as DER; ValueError if the key can't do it or the content does not fit."""
    if isinstance(key, rsa.RSAPrivateKey):
        return _sign_rsa(key, algorithm, content)
    if algorithm == ECDSA:
        if not content:
            raise ValueError("no digest")
        return ecdsa_der(key, content)
    if algorithm & KIND != ECDSA or algorithm & HASH not in HASHES:
        raise ValueError("an algorithm that an EC key can't do")
    return key.sign(content, ec.ECDSA(HASHES[algorithm & HASH]))


def _sign_rsa(key: rsa.RSAPrivateKey, algorithm: int, content: bytes) -> bytes:
    if algorithm == RSA_RAW:
        return rsa_raw(key, content)
    if algorithm == RSA_PKCS1:
        return rsa_sign_pkcs1(key, content)
    if algorithm == RSA_PSS:
        if len(content) not in HASH_OF_SIZE:
            raise ValueError("a digest of no known algorithm")
        hashed = HASH_OF_SIZE[len(content)]
        return key.sign(content, _pss(hashed), utils.Prehashed(hashed))
    chosen = HASHES.get(algorithm & HASH)
    if chosen is None or algorithm & KIND not in (RSA_PKCS1, RSA_PSS):
        raise ValueError("an algorithm that an RSA key can't do")
    return key.sign(content, _pss(chosen) if algorithm & KIND == RSA_PSS else padding.PKCS1v15(), chosen)


def _pss(hashed: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(hashed), hashed.digest_size)
