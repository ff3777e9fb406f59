"""Renewing one container on the card, step by step; a card that is pulled after any step can go on from there.

    new_key -> request -> write     in the card's next session: [confirmed by the centre] -> retire

The journal is the card itself: a key of ours without a certificate is a renewal that was cut off before `write`, two
containers for one project one that is to be confirmed. Nothing is removed before its successor was read from the card
in a session of its own and has signed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import Container
from sdbox.smartcard.cardkey import Sign, certificate_request
from sdbox.smartcard.certificates import Scheme, project_of, public_key_of
from sdbox.smartcard.variants import KeyKindName, Renewal, Variant

if TYPE_CHECKING:
    from sdbox.smartcard.keystore import KeyStore

MARK: Final = b"SDB"  # begins the identifier of every key that a renewal made
ID_BYTES: Final = 5
_SCHEMES: Final = {"secp256r1": Scheme.ECDSA_SECP256R1_SHA256, "secp384r1": Scheme.ECDSA_SECP384R1_SHA384}
_KINDS: Final[dict[str, KeyKindName]] = {"secp256r1": "p256", "secp384r1": "p384"}


def _failed(detail: str) -> Refusal:
    return Refusal(Reason.RENEWAL_FAILED, detail)


@dataclass(frozen=True, slots=True)
class Renewing:
    """A container that is to be renewed. Every method is one step and raises Refusal(RENEWAL_FAILED)."""

    variant: Variant
    store: KeyStore
    old: Container

    def new_key(self) -> bytes:
        """Return the identifier of the key to be certified: one left over, else a new one; or the old one's."""
        if self.variant.renewal is Renewal.NONE:
            raise _failed(f"{self.variant.name} cards are not renewed by a box")
        if self.variant.renewal is Renewal.SAME_KEY:
            return self.old.key_id
        self._tidy()
        keys = self.store.keys()
        for key_id in [key_id for key_id, label in keys.items() if self._is_left_over(key_id, label)]:
            if self.store.public_key(key_id) is not None:
                return key_id
            self.store.remove_key(key_id)  # cut off between the removal of its request and the certificate
            del keys[key_id]
        if len(keys) >= self.variant.containers:
            raise _failed("no free container")
        key_id = MARK + os.urandom(ID_BYTES)
        self.store.generate(key_id, self.old.label, self._kind())
        return key_id

    def request(self, key_id: bytes) -> bytes:
        """Return a PKCS#10 (DER) for the key, signed by it."""
        public = load_der_public_key(self._public(key_id))
        if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise _failed("a key of a kind we do not use")
        return certificate_request(
            x509.load_der_x509_certificate(self.old.certificate), public, self._signer(key_id, public)
        )

    def write(self, key_id: bytes, certificate: bytes) -> None:
        """Put the certificate beside its key and read it back. What is there already is not written again."""
        public = public_key_of(certificate)
        if public is None or project_of(certificate) != self.old.project:
            raise _failed("the certificate is for another project, or none")
        if public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != self._public(key_id):
            raise _failed("the certificate is for another key")
        there = self.store.certificates(key_id)
        if certificate not in there:
            if key_id != self.old.key_id:
                self.store.remove_certificates(key_id, there)  # torn by an earlier attempt
            self.store.written.add(certificate)
            self.store.write(key_id, self.old.label, certificate)
        if self.store.certificates(key_id).count(certificate) != 1:
            raise _failed("the card does not give back what was written")

    def retire(self, successor: Container) -> None:
        """Remove the old container. Refusal if `successor` is not a whole one for the same project, read from the card.

        OpenSC answers from its memory what it has just written: only a session that began afterwards has read it.
        """
        if successor.certificate in self.store.written:
            raise _failed("the successor was written in this card session and not yet read from the card")
        if successor.project != self.old.project or successor.certificate == self.old.certificate:
            raise _failed("a container is removed only beside its successor")
        if successor.certificate not in self.store.certificates(successor.key_id):
            raise _failed("the successor is not on the card")
        if successor.key_id != self.old.key_id:
            self.store.remove_key(self.old.key_id)  # first: a certificate without a key opens nothing
        self.store.remove_certificates(self.old.key_id, [self.old.certificate])

    def _tidy(self) -> None:
        """Remove what a `retire` that was cut off has left: a certificate of this project whose key is gone."""
        for key_id, certificates in self.store.orphans().items():
            doomed = [one for one in certificates if one and project_of(one) == self.old.project]
            self.store.remove_certificates(key_id, doomed)

    def _is_left_over(self, key_id: bytes, label: str) -> bool:
        if not key_id.startswith(MARK) or label != self.old.label:
            return False
        return all(project_of(certificate) is None for certificate in self.store.certificates(key_id) if certificate)

    def _kind(self) -> KeyKindName:
        public = public_key_of(self.old.certificate)
        if isinstance(public, rsa.RSAPublicKey):
            raise _failed("no RSA key is made beside a session: a card may look for its primes for minutes")
        kind = _KINDS.get(public.curve.name) if isinstance(public, ec.EllipticCurvePublicKey) else None
        if kind is None or kind not in self.variant.kinds:
            raise _failed("the card makes no key of the old one's kind")
        return kind

    def _public(self, key_id: bytes) -> bytes:
        """Return the SubjectPublicKeyInfo; a key that was certified before may be known by its certificate alone."""
        if key_id == self.old.key_id:
            public = public_key_of(self.old.certificate)
            if public is not None:
                return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        found = self.store.public_key(key_id)
        if found is None:
            raise _failed("the key's public half is not known")
        return found

    def _signer(self, key_id: bytes, public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> Sign:
        def sign(message: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
            if isinstance(public, rsa.RSAPublicKey):
                return self.store.sign(key_id, message, Scheme.RSA_PSS_RSAE_SHA256)
            digest = hashes.Hash(algorithm)
            digest.update(message)
            return self.store.sign(key_id, digest.finalize(), _SCHEMES[public.curve.name])

        return sign
