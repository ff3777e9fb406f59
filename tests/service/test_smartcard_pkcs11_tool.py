"""OpenSC's own test of a token, and a signature made and checked, against each emulated card.

Its unmodified tool with its default settings, in this host's version and in the box's. The key identifiers come from
the container map of each variant file, so that those are met here as well.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sdbox.smartcard.certificates import project_of
from sdbox.smartcard.pcsc import card_in
from sdbox.smartcard.probe import probe_card
from sdbox.smartcard.recognise import recognise
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import Variant, variant_named, variants_for
from sdbox.smartcard.virtual.models import MODELS
from tests.service.smartcard_bench import (
    FOLDER,
    PIN,
    READER,
    emulated_card,
    running_pcscd,
    sees_card,
    stack_named,
    wait_for,
)

pytestmark = pytest.mark.root
PROJECTS = ("atlas", "boreal", "cassini")
# Debian 12's OpenSC has no OpenPACE; no OpenSC compares fingers for a PIV card.
NOT_HERE = {"host": {"goid", "piv-occ"}, "box": {"piv-occ"}}
# The box's OpenSC meets each kind of key, this host's older one the first.
CASES = [
    (place, name, kind)
    for place, left_out in NOT_HERE.items()
    for name in MODELS
    if name not in left_out
    for kind in variant_named(name).kinds[: 1 if place == "host" else None]
]
# OpenSC's gids driver asks for no random numbers; its 0.23 takes IsoApplet 1.0 for an older version, which had none.
NO_RANDOM = {("host", "gids"), ("box", "gids"), ("host", "isoapplet")}
NO_RANDOM_SAID = re.compile(r"ERR: C_GenerateRandom(\(.*\))? failed: CKR_FUNCTION_NOT_SUPPORTED \(0x54\)")


def ids_of(variant: Variant) -> Sequence[str]:
    """Return the CKA_IDs of the variant's containers, in hex, as its file tells them."""
    return [f"{int(part.id, 16) + index:02x}" for part in variant.keys for index in range(part.count)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that both places see."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as path:
        yield Path(path)


@pytest.mark.parametrize(("place", "name", "kind"), CASES)
def test_openscs_own_test_and_a_signature(folder: Path, place: str, name: str, kind: str) -> None:
    stack, variant = stack_named(place), variant_named(name)
    login = ["--login"] if variant.login.method is LoginMethod.FINGER else ["--login", "--pin", PIN]
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, PROJECTS, ["--keys", kind]) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        told = stack.run("pkcs11-tool", "--test", *login)
        errors = [line.strip() for line in told.stderr.splitlines() if "ERR" in line]
        assert bool(errors) is ((place, name) in NO_RANDOM)
        assert all(NO_RANDOM_SAID.fullmatch(line) for line in errors)
        assert (f"{len(errors)} errors" if errors else "No errors") in told.stdout
        last = min(len(PROJECTS), variant.containers) - 1
        key = ["--id", ids_of(variant)[last]]
        signed = folder / "signed"
        signed.write_bytes(b"content" if kind == "rsa2048" else hashlib.sha256(b"content").digest())
        mechanism = ["--mechanism", "SHA256-RSA-PKCS" if kind == "rsa2048" else "ECDSA"]
        files = ["--input-file", str(signed), "--output-file", str(folder / "signature")]
        stack.run("pkcs11-tool", *login, "--sign", *mechanism, *key, *files, "--signature-format", "openssl")
        stack.run("pkcs11-tool", "--read-object", "--type", "cert", *key, "--output-file", str(folder / "certificate"))
    certificate = (folder / "certificate").read_bytes()
    assert project_of(certificate) == PROJECTS[last]
    check(x509.load_der_x509_certificate(certificate), (folder / "signature").read_bytes(), signed.read_bytes())


def check(certificate: x509.Certificate, signature: bytes, signed: bytes) -> None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, signed, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


@pytest.mark.parametrize("name", ["gids", "isoapplet"])
def test_applets_on_the_same_chip_are_told_apart(name: str) -> None:
    with running_pcscd() as pcscd, emulated_card(pcscd, name, ("atlas",)) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        seen = card_in(READER)
        assert seen is not None
        assert len(variants_for(seen.atr)) > 1
        assert recognise(READER, seen.atr).name == probe_card(5).variant == name
        assert card.verifies == 0
