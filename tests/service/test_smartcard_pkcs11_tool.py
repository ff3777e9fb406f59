"""OpenSC's own test of a token, and a signature made and checked, against each emulated card with a PKCS#11 module.

Its unmodified tool with default settings, in this host's version and in the box's. The key identifiers come from
the container map of each variant file, so that those are met here as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import places, stack_named
from sdbox.bench.card_reader import READER, running_pcscd, sees_card, wait_for
from sdbox.bench.card_stack import Stack
from sdbox.bench.softtoken import PIN
from sdbox.smartcard.certificates import project_of
from sdbox.smartcard.pcsc import card_in
from sdbox.smartcard.probe import probe_card
from sdbox.smartcard.recognise import recognise
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import Variant, variant_named, variants_for
from tests.service.smartcard_cases import cases, key_cases, key_ids

pytestmark = pytest.mark.root
PROJECTS = ("atlas", "boreal", "cassini")
CONTENT = b"content"
# OpenSC's gids driver asks for no random numbers; its 0.23 takes IsoApplet 1.0 for an older version, which had none.
NO_RANDOM = {("host", "gids"), ("box", "gids"), ("host", "isoapplet")}
# OpenSC's iasecc driver, built with OpenSSL 3, can't feed the card's hash: only what is hashed before can be signed.
NO_HASH = {"ias-ecc"}
DIGEST_INFO = bytes.fromhex("3031300D060960864801650304020105000420")  # SHA-256 (RFC 8017, 9.2)
NO_RANDOM_SAID = re.compile(r"ERR: C_GenerateRandom(\(.*\))? failed: CKR_FUNCTION_NOT_SUPPORTED \(0x54\)")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that both places see."""
    with tempfile.TemporaryDirectory(dir=places().folder) as path:
        yield Path(path)


class Tool:
    """pkcs11-tool with the module of a variant, as its holder."""

    def __init__(self, stack: Stack, variant: Variant) -> None:
        assert variant.module is not None
        # It takes no empty PIN: a card that reads a finger then is opened by the PIN that it has as well.
        finger = variant.login.method is LoginMethod.FINGER and not variant.login.empty_pin
        self._login = ["--login"] if finger else ["--login", "--pin", PIN]
        module = next(path for path in variant.module.paths if stack.has(path))
        self._command = ["pkcs11-tool", "--module", module]
        self._stack = stack

    def __call__(self, *options: str, login: bool = True, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._stack.run(*self._command, *(self._login if login else []), *options, check=check)

    def check_itself(self, name: str, place: str) -> None:
        """OpenSC's own test, as it ends for this card."""
        told = self("--test", check=name not in NO_HASH)
        if name in NO_HASH:
            assert "    RSA-PKCS: OK\n" in told.stdout
            assert "C_Sign failed: rv = CKR_FUNCTION_NOT_SUPPORTED" in told.stderr
            return
        errors = [line.strip() for line in told.stderr.splitlines() if "ERR" in line]
        assert bool(errors) is ((place, name) in NO_RANDOM)
        assert all(NO_RANDOM_SAID.fullmatch(line) for line in errors)
        assert (f"{len(errors)} errors" if errors else "No errors") in told.stdout


def mechanism_for(name: str, kind: str) -> tuple[str, bytes]:
    """Return the mechanism that signs CONTENT with such a key, and what it is given."""
    digest = hashlib.sha256(CONTENT).digest()
    if name in NO_HASH:
        return "RSA-PKCS", DIGEST_INFO + digest
    return ("SHA256-RSA-PKCS", CONTENT) if kind == "rsa2048" else ("ECDSA", digest)


@pytest.mark.parametrize(("name", "kind", "place"), key_cases())
def test_openscs_own_test_and_a_signature(folder: Path, name: str, kind: str, place: str) -> None:
    stack, variant = stack_named(place), variant_named(name)
    tool = Tool(stack, variant)
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, PROJECTS, ["--keys", kind]) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        tool.check_itself(name, place)
        last = min(len(PROJECTS), variant.containers) - 1
        key = ["--id", key_ids(name)[last]]
        mechanism, content = mechanism_for(name, kind)
        (folder / "content").write_bytes(content)
        files = ["--input-file", str(folder / "content"), "--output-file", str(folder / "signature")]
        tool("--sign", "--mechanism", mechanism, *key, *files, "--signature-format", "openssl")
        tool("--read-object", "--type", "cert", *key, "--output-file", str(folder / "certificate"), login=False)
    certificate = (folder / "certificate").read_bytes()
    assert project_of(certificate) == PROJECTS[last]
    key_of_card = x509.load_der_x509_certificate(certificate).public_key()
    signature = (folder / "signature").read_bytes()
    if isinstance(key_of_card, rsa.RSAPublicKey):
        key_of_card.verify(signature, CONTENT, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(key_of_card, ec.EllipticCurvePublicKey)
        key_of_card.verify(signature, CONTENT, ec.ECDSA(hashes.SHA256()))


FULL = 20
FULL_CASES = [(name, place) for name, place in cases() if place == "box" or name in ("ias-ecc", "piv", "sc-hsm-bio")]


@pytest.mark.parametrize(("name", "place"), [one for one in FULL_CASES if variant_named(one[0]).module is not None])
def test_a_full_card_shows_all_its_keys_and_the_last_one_signs(folder: Path, name: str, place: str) -> None:
    stack, variant = stack_named(place), variant_named(name)
    tool, names = Tool(stack, variant), [f"p{number:02}" for number in range(min(FULL, variant.containers))]
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, names) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        listed = tool("--list-objects", "--type", "privkey").stdout
        (folder / "content").write_bytes(mechanism_for(name, variant.kinds[0])[1])
        files = ["--input-file", str(folder / "content"), "--output-file", str(folder / "signature")]
        last = ["--id", key_ids(name)[len(names) - 1], "--mechanism", mechanism_for(name, variant.kinds[0])[0]]
        tool("--sign", *last, *files)
    assert listed.count("Usage:") >= len(names), "OpenPGP and YubiKey have keys that are no containers"
    assert (folder / "signature").stat().st_size >= 64


@pytest.mark.parametrize("name", ["gids", "isoapplet"])
def test_applets_on_the_same_chip_are_told_apart(name: str) -> None:
    with running_pcscd() as pcscd, emulated_card(pcscd, name, ("atlas",)) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        seen = card_in(READER)
        assert seen is not None
        assert len(variants_for(seen.atr)) > 1
        assert asyncio.run(recognise(READER, seen.atr)).name == probe_card(5).variant == name
        assert card.verifies == 0
