"""TPM keys and signatures as `cryptography` knows them."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sdbox.attestation.structures import Algorithm, Public, Signature, StructureError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
HASHES: dict[int, hashes.HashAlgorithm] = {
    Algorithm.SHA256: hashes.SHA256(),
    Algorithm.SHA384: hashes.SHA384(),
}
_CURVES: dict[int, ec.EllipticCurve] = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1()}  # TPM_ECC_CURVE
_DEFAULT_EXPONENT = 65537  # an exponent of zero means this one (TPM 2.0 part 2, 12.2.3.5)
_MIN_RSA = 2048


def public_key(public: Public) -> PublicKey:
    """Return the key; StructureError if it is off its curve, too short or of a size that it does not announce."""
    try:
        if public.kind == Algorithm.RSA:
            return _rsa_key(public)
        curve = _CURVES[public.size]
        x, y = (int.from_bytes(coordinate, "big") for coordinate in public.unique)
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except (KeyError, ValueError) as error:
        raise StructureError(f"no usable public key: {error}") from error


def _rsa_key(public: Public) -> rsa.RSAPublicKey:
    modulus = int.from_bytes(public.unique[0], "big")
    if modulus.bit_length() != public.size or public.size < _MIN_RSA:
        raise ValueError(f"RSA modulus of {modulus.bit_length()} bits, announced {public.size}")
    return rsa.RSAPublicNumbers(public.exponent or _DEFAULT_EXPONENT, modulus).public_key()


def is_signed(key: PublicKey, signature: Signature, message: bytes) -> bool:
    """Check a signature whose scheme and hash the caller has allowed. KeyError for a hash that is not in HASHES."""
    algorithm = HASHES[signature.hash]
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            r, s = (int.from_bytes(part, "big") for part in signature.value)
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(algorithm))
        else:
            key.verify(signature.value[0], message, _rsa_padding(signature.scheme, algorithm), algorithm)
    except InvalidSignature:
        return False
    return True


def _rsa_padding(scheme: int, algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if scheme == Algorithm.RSASSA:
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
