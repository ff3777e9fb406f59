"""A card's certificate and a request for its successor, the same at each start: what the fuzzer bends."""

from __future__ import annotations

import datetime as dt
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sdbox.protocol.values import PROJECT_URI

KEY = ec.derive_private_key(34, ec.SECP256R1())  # signs nothing that anybody believes
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "container")])
_PROJECT = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{PROJECT_URI}atlas")])
_BEGIN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@cache
def card_certificate() -> x509.Certificate:
    """Return a self-signed certificate of a container, past half of its life."""
    names = (name == "digital_signature" for name in _USAGES)
    usage = x509.KeyUsage(**dict(zip(_USAGES, names, strict=True)))
    builder = x509.CertificateBuilder(_NAME, _NAME, KEY.public_key(), 1)
    builder = builder.not_valid_before(_BEGIN).not_valid_after(_BEGIN + dt.timedelta(days=3650))
    builder = builder.add_extension(_PROJECT, critical=False).add_extension(usage, critical=True)
    return builder.sign(KEY, hashes.SHA256(), ecdsa_deterministic=True)


def card_der() -> bytes:
    return card_certificate().public_bytes(Encoding.DER)


def renewal_der() -> bytes:
    """Return a PKCS#10 that renews it."""
    builder = x509.CertificateSigningRequestBuilder(_NAME).add_extension(_PROJECT, critical=False)
    return builder.sign(KEY, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
