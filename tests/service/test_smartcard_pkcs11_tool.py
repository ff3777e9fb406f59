"""OpenSC's own test of a token, and a signature made and checked, against each emulated card with each kind of key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sdbox.smartcard.pcsc import card_in
from sdbox.smartcard.recognise import recognise
from sdbox.smartcard.variants import variants_for
from tests.service.smartcard_bench import PIN, READER, Pcscd, emulated_card, run, running_pcscd, sees_card, wait_for

pytestmark = pytest.mark.root
LOGIN = ("--login", "--pin", PIN)
# (variant, keys, CKA_ID of the last of its containers that signs)
CARDS = [
    ("gids", "rsa2048", "02"),
    ("isoapplet", "rsa2048", "03"),
    ("myeid", "p256", "03"),
    ("myeid", "p384", "03"),
    ("myeid", "rsa2048", "03"),
    ("openpgp", "p256", "03"),
    ("openpgp", "p384", "03"),
    ("openpgp", "rsa2048", "03"),
    ("piv", "p256", "06"),
    ("piv", "p384", "06"),
    ("piv", "rsa2048", "06"),
]
# OpenSC's gids driver asks for no random numbers; its 0.23 takes IsoApplet 1.0 for an older version, which had none.
NO_RANDOM = ["ERR: C_GenerateRandom failed: CKR_FUNCTION_NOT_SUPPORTED (0x54)"]
KNOWN = {"gids": NO_RANDOM, "isoapplet": NO_RANDOM}


@pytest.fixture(scope="module")
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


@pytest.mark.parametrize(("name", "keys", "last"), CARDS)
def test_openscs_own_test_and_a_signature(pcscd: Pcscd, name: str, keys: str, last: str, tmp_path: Path) -> None:
    with emulated_card(pcscd, name, ("atlas", "boreal", "cassini"), ["--keys", keys]) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        told = run("pkcs11-tool", "--test", *LOGIN)
        errors = [line.strip() for line in told.stderr.splitlines() if "ERR" in line]
        assert errors == KNOWN.get(name, [])
        assert (f"{len(errors)} errors" if errors else "No errors") in told.stdout
        data, signature, certificate = tmp_path / "data", tmp_path / "signature", tmp_path / "certificate"
        data.write_bytes(hashlib.sha256(b"content").digest() if keys != "rsa2048" else b"content")
        mechanism = "SHA256-RSA-PKCS" if keys == "rsa2048" else "ECDSA"
        files = ["--input-file", str(data), "--output-file", str(signature), "--signature-format", "openssl"]
        run("pkcs11-tool", *LOGIN, "--sign", "--mechanism", mechanism, "--id", last, *files)
        read = ["--read-object", "--type", "cert", "--id", last, "--output-file", str(certificate)]
        run("pkcs11-tool", *read)
        check(x509.load_der_x509_certificate(certificate.read_bytes()), signature.read_bytes(), data.read_bytes())


@pytest.mark.parametrize("name", ["gids", "isoapplet"])
def test_applets_on_the_same_chip_are_told_apart(pcscd: Pcscd, name: str) -> None:
    with emulated_card(pcscd, name, ("atlas",)) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        seen = card_in(READER)
        assert seen is not None
        assert len(variants_for(seen.atr)) > 1
        assert recognise(READER, seen.atr).name == name
        assert card.verifies == 0


def check(certificate: x509.Certificate, signature: bytes, data: bytes) -> None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, data, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
