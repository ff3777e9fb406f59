"""TPM keys and signatures as `cryptography` knows them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sdbox.attestation.structures import Algorithm, Public, Signature, StructureError, name_of, parse_public

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
HASHES: dict[int, hashes.HashAlgorithm] = {
    Algorithm.SHA256: hashes.SHA256(),
    Algorithm.SHA384: hashes.SHA384(),
}
_ECDSA: dict[int, ec.ECDSA] = {number: ec.ECDSA(algorithm) for number, algorithm in HASHES.items()}
_CURVES: dict[int, tuple[ec.EllipticCurve, int]] = {0x0003: (ec.SECP256R1(), 32), 0x0004: (ec.SECP384R1(), 48)}
_DEFAULT_EXPONENT = 65537  # an exponent of zero means this one (TPM 2.0 part 2, 12.2.3.5)
_MIN_RSA = 2048


@dataclass(frozen=True, slots=True)
class Key:
    """A parsed TPMT_PUBLIC, its Name, and the key; `key` is None, and `error` says why, if it is no usable one."""

    public: Public
    name: bytes
    key: PublicKey | None
    error: str = ""


def load_key(encoded: bytes) -> Key:
    """Parse a TPMT_PUBLIC; StructureError if it is not exactly one."""
    public = parse_public(encoded)
    try:
        return Key(public, name_of(encoded), public_key(public))
    except StructureError as error:
        return Key(public, name_of(encoded), None, str(error))


class KeyMemory:
    """Keys by their encoding, the least used dropped first: parsing one costs a third of a signature check."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: OrderedDict[bytes, Key] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def load(self, encoded: bytes) -> Key:
        """Return `load_key(encoded)`, remembered."""
        known = self._keys.get(encoded)
        if known is not None:
            self._keys.move_to_end(encoded)
            return known
        key = self._keys[encoded] = load_key(encoded)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)
        return key


def public_key(public: Public) -> PublicKey:
    """Return the key; StructureError if it is off its curve, too short or of a size that it does not announce."""
    try:
        if public.kind == Algorithm.RSA:
            return _rsa_key(public)
        curve, size = _CURVES[public.size]
        x, y = (coordinate.rjust(size, b"\0") for coordinate in public.unique)
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + x + y)
    except (KeyError, ValueError) as error:
        raise StructureError(f"no usable public key: {error}") from error


def _rsa_key(public: Public) -> rsa.RSAPublicKey:
    modulus = int.from_bytes(public.unique[0], "big")
    if modulus.bit_length() != public.size or public.size < _MIN_RSA:
        raise ValueError(f"RSA modulus of {modulus.bit_length()} bits, announced {public.size}")
    return rsa.RSAPublicNumbers(public.exponent or _DEFAULT_EXPONENT, modulus).public_key()


def is_one_encoding(public: Public, signature: Signature) -> bool:
    """Whether r and s are as TPMs write them: of the curve's size, or without leading zeros. RSA has one encoding."""
    if public.kind != Algorithm.ECC or public.size not in _CURVES:
        return True
    size = _CURVES[public.size][1]
    return all(len(part) == size or (len(part) < size and part[:1] > b"\0") for part in signature.value)


def is_signed(key: PublicKey, signature: Signature, message: bytes) -> bool:
    """Check a signature whose scheme and hash the caller has allowed. KeyError for a hash that is not in HASHES."""
    algorithm = HASHES[signature.hash]
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            r, s = (int.from_bytes(part, "big") for part in signature.value)
            key.verify(encode_dss_signature(r, s), message, _ECDSA[signature.hash])
        else:
            key.verify(signature.value[0], message, _rsa_padding(signature.scheme, algorithm), algorithm)
    except InvalidSignature:
        return False
    return True


def _rsa_padding(scheme: int, algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if scheme == Algorithm.RSASSA:
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
