"""Writing to a logged-in token: the steps that `renewal.py` is made of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.certificates import Scheme
from sdbox.smartcard.cryptoki import (
    MGF,
    Attribute,
    AttributeTypeInvalid,
    CertificateType,
    KeyType,
    Mechanism,
    MechanismFlag,
    ObjectClass,
    PKCS11Error,
    Token,
    encode_ec_public_key,
    encode_named_curve_parameters,
    encode_rsa_public_key,
)
from sdbox.smartcard.variants import KeyKindName

CURVES: Final[dict[str, str]] = {"p256": "secp256r1", "p384": "secp384r1"}
PSS_SHA256: Final = (Mechanism.SHA256, MGF.SHA256, 32)
SHA256_PREFIX: Final = bytes.fromhex("3031300D060960864801650304020105000420")  # DigestInfo (RFC 8017, 9.2, note 1)


def value_of(certificate: Any) -> bytes:  # noqa: ANN401 - attribute access of python-pkcs11 is untyped
    """Return the certificate (DER); b"" if it was torn when it was written, and cannot be read."""
    try:
        return bytes(certificate[Attribute.VALUE])
    except AttributeTypeInvalid:
        return b""


def label_of(item: Any) -> str:  # noqa: ANN401 - see value_of
    """Return an object's label, which belongs in UTF-8; what is written otherwise is marked in it."""
    try:
        return str(item[Attribute.LABEL])
    except UnicodeDecodeError as error:
        return error.object.decode(errors="replace")


def sign_digest(key: Any, scheme: Scheme, digest: bytes) -> bytes:  # noqa: ANN401 - see value_of
    """Return the signature as TLS wants it: PKCS#11 gives ECDSA as r and s side by side, TLS wants DER."""
    sign: Callable[..., bytes] = key.sign
    if scheme is Scheme.RSA_PSS_RSAE_SHA256:
        return sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=PSS_SHA256)
    if scheme is Scheme.RSA_PKCS1_SHA256_LEGACY:
        return sign(SHA256_PREFIX + digest, mechanism=Mechanism.RSA_PKCS)
    raw = sign(digest, mechanism=Mechanism.ECDSA)
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


class KeyStore:
    """A logged-in token that can be written: what `renewal.py` does is made of these steps.

    Each raises Refusal(RENEWAL_FAILED) if the card does not do it; the card session goes on.
    """

    def __init__(self, token: Token) -> None:
        self.written: set[bytes] = set()  # certificates (DER) since the session began
        with _written("open for writing"):
            self._session = token.open(rw=True)  # the login is the token's, not a session's

    def keys(self) -> dict[bytes, str]:
        """Return the private keys' identifiers and labels."""
        with _written("list keys"):
            found = self._session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
            return {bytes(key[Attribute.ID]): label_of(key) for key in found}

    def certificates(self, key_id: bytes) -> list[bytes]:
        """Return the certificates (DER) at `key_id`; b"" stands for one that cannot be read."""
        with _written("list certificates"):
            return [value_of(item) for item in self._objects(ObjectClass.CERTIFICATE, key_id)]

    def orphans(self) -> dict[bytes, list[bytes]]:
        """Return the certificates (DER) that have no private key, by identifier."""
        keys = self.keys()
        found: dict[bytes, list[bytes]] = {}
        with _written("list certificates"):
            for item in self._session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE}):
                if (key_id := bytes(item[Attribute.ID])) not in keys:
                    found.setdefault(key_id, []).append(value_of(item))
        return found

    def public_key(self, key_id: bytes) -> bytes | None:
        """Return the SubjectPublicKeyInfo of a key pair; None if the token does not know its public half any more."""
        with _written("read public key"):
            for key in self._objects(ObjectClass.PUBLIC_KEY, key_id):
                try:
                    kind = key[Attribute.KEY_TYPE]
                    der = encode_rsa_public_key(key) if kind is KeyType.RSA else encode_ec_public_key(key)
                    return load_der_public_key(der).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                except (AttributeTypeInvalid, ValueError):
                    continue
        return None

    def generate(self, key_id: bytes, label: str, kind: KeyKindName) -> None:
        """Make an EC key pair that signs and never leaves the card."""
        kept = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        wanted: dict[str, Any] = {"id": key_id, "label": label, "store": True, "private_template": kept}
        wanted["capabilities"] = MechanismFlag.SIGN | MechanismFlag.VERIFY
        with _written("generate"):
            named = {Attribute.EC_PARAMS: encode_named_curve_parameters(CURVES[kind])}
            curve = self._session.create_domain_parameters(KeyType.EC, named, local=True)
            curve.generate_keypair(**wanted)

    def sign(self, key_id: bytes, digest: bytes, scheme: Scheme) -> bytes:
        """Sign a digest with an EC key (DER), or a whole message with an RSA key (PKCS #1 v1.5 and SHA-256)."""
        with _written("sign request"):
            (key,) = self._objects(ObjectClass.PRIVATE_KEY, key_id)
            if scheme is Scheme.RSA_PSS_RSAE_SHA256:
                signed: bytes = key.sign(digest, mechanism=Mechanism.SHA256_RSA_PKCS)
                return signed
            return sign_digest(key, scheme, digest)

    def write(self, key_id: bytes, label: str, certificate: bytes) -> None:
        """Put a certificate beside its key."""
        with _written("write certificate"):
            self._session.create_object(
                {
                    Attribute.CLASS: ObjectClass.CERTIFICATE,
                    Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
                    Attribute.TOKEN: True,
                    Attribute.ID: key_id,
                    Attribute.LABEL: label,
                    Attribute.SUBJECT: x509.load_der_x509_certificate(certificate).subject.public_bytes(),
                    Attribute.VALUE: certificate,
                }
            )

    def remove_key(self, key_id: bytes) -> None:
        """Destroy a key pair."""
        with _written("destroy key"):
            for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
                for key in self._objects(kind, key_id):
                    key.destroy()

    def remove_certificates(self, key_id: bytes, doomed: Collection[bytes]) -> None:
        """Delete those certificates at `key_id` whose value is among `doomed`."""
        with _written("delete certificate"):
            for item in self._objects(ObjectClass.CERTIFICATE, key_id):
                if value_of(item) in doomed:
                    item.destroy()

    def _objects(self, kind: ObjectClass, key_id: bytes) -> list[Any]:
        return list(self._session.get_objects({Attribute.CLASS: kind, Attribute.ID: key_id}))


@contextmanager
def _written(doing: str) -> Iterator[None]:
    """Turn the module's errors into a refusal that costs the session nothing."""
    try:
        yield
    except (PKCS11Error, ValueError) as error:
        raise Refusal(Reason.RENEWAL_FAILED, f"{doing}: {type(error).__name__} {error}".rstrip()) from error
