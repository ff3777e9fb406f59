"""Development keys: made once, private, and each certificate good for its purpose only."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from sdbox.host.pki import GATEWAY_NAME, SECURE_BOOT_NAMES, DevelopmentPki, ensure_development_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentPki:
    return ensure_development_pki(tmp_path_factory.mktemp("state") / "dev-keys")


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_second_call_changes_nothing(pki: DevelopmentPki) -> None:
    before = {path: path.read_bytes() for path in pki.folder.iterdir()}
    ensure_development_pki(pki.folder)
    assert {path: path.read_bytes() for path in pki.folder.iterdir()} == before


def test_only_the_owner_reads_keys(pki: DevelopmentPki) -> None:
    keys = list(pki.folder.glob("*.key"))
    assert len(keys) == 9
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert pki.folder.stat().st_mode & 0o777 == 0o700


def test_the_gateway_verifies_under_the_centre_and_no_other_authority(pki: DevelopmentPki) -> None:
    gateway = _load(pki.certificate("gateway"))
    good = PolicyBuilder().store(Store([_load(pki.certificate("centre-ca"))]))
    good.build_server_verifier(x509.DNSName(GATEWAY_NAME)).verify(gateway, [])
    other = PolicyBuilder().store(Store([_load(pki.certificate("card-ca"))]))
    with pytest.raises(VerificationError):
        other.build_server_verifier(x509.DNSName(GATEWAY_NAME)).verify(gateway, [])


def test_secure_boot_keys_are_rsa_and_the_rest_is_p256(pki: DevelopmentPki) -> None:
    for name in SECURE_BOOT_NAMES:
        key = _load(pki.certificate(name)).public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 2048
    for name in ("centre-ca", "card-ca", "gateway"):
        assert isinstance(_load(pki.certificate(name)).public_key(), ec.EllipticCurvePublicKey)
