"""Row 2 of the checklist at enrolment: a certificate counts only for the key it is about."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sdbox.attestation.credential import make_credential
from sdbox.attestation.enrolment import certificate_pem
from sdbox.protocol.reasons import Reason, Refusal

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, start, start + dt.timedelta(days=1))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


CERTIFICATE = certificate()


def test_padding_of_the_index_behind_the_certificate_is_left_out() -> None:
    pem = certificate_pem(CERTIFICATE + b"\xff" * 100, KEY.public_key())
    assert x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER) == CERTIFICATE


@pytest.mark.parametrize("der", [CERTIFICATE, CERTIFICATE[:-1], b"", b"\xff" * 40])
def test_a_certificate_for_another_key_or_none_at_all_is_refused(der: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        certificate_pem(der, OTHER.public_key())
    assert caught.value.reason is Reason.BOX_TPM


def test_a_credential_carries_exactly_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        make_credential(KEY.public_key(), b"\0\x0b" + bytes(32), bytes(31))
