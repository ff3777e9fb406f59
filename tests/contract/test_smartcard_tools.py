"""Each emulated card passes pkcs11-tool: what an unmodified module makes of it, with the module's own settings."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import variant_named
from tests.service.smartcard_bench import FOLDER, PIN, READER, emulated_card, running_pcscd, stack_named
from tests.service.smartcard_cases import key_cases, key_ids
from tests.service.smartcard_stack import Stack

pytestmark = pytest.mark.root
PROJECTS = ("atlas", "boreal", "cassini")
CONTENT = bytes(range(32))
SIGN = {"rsa2048": ["--mechanism", "SHA256-RSA-PKCS"], "digest-info": ["--mechanism", "RSA-PKCS"]}
DIGEST_INFO = bytes.fromhex("3031300D060960864801650304020105000420")  # SHA-256 (RFC 8017, 9.2)
ONLY_DIGEST_INFO = {"ias-ecc"}  # OpenSC's iasecc driver, built with OpenSSL 3, can't feed the card's hash
TESTED = {
    ("isoapplet", "host"): "1 errors",  # C_GenerateRandom: OpenSC 0.23 asks this card for none, 0.26 does
    ("ias-ecc", "host"): "C_Sign failed: rv = CKR_FUNCTION_NOT_SUPPORTED",  # SHA1-RSA-PKCS: see ONLY_DIGEST_INFO
}
SIGN_EC = ["--mechanism", "ECDSA", "--signature-format", "openssl"]


class Tool:
    """pkcs11-tool with one card in."""

    def __init__(self, stack: Stack, name: str) -> None:
        variant = variant_named(name)
        self._stack = stack
        assert variant.module is not None
        module = next(path for path in variant.module.paths if stack.has(path))
        # pkcs11-tool takes no empty PIN: a card that reads a finger then is opened by the PIN that it has as well.
        protected = variant.login.method is LoginMethod.FINGER and not variant.login.empty_pin
        self._command = ["pkcs11-tool", "--module", module]
        self._login = ["--login"] if protected else ["--login", "--pin", PIN]
        self.projects = PROJECTS[: variant.containers]

    def __call__(self, *options: str, login: bool = True) -> str:
        ran = self._run(*(self._login if login else []), *options)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def test(self) -> str:
        ran = self._run(*self._login, "--test")
        return ran.stdout + ran.stderr

    def _run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self._stack.run(*self._command, *options, check=False, seconds=60)


@contextmanager
def _tool(name: str, kind: str, place: str) -> Iterator[Tool]:
    stack = stack_named(place)
    tool = Tool(stack, name)
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, tool.projects, ["--keys", kind]) as card:
        card.insert()
        card.tell("auto good")
        stack.wait_for_card(READER)
        yield tool


@pytest.mark.parametrize(("name", "kind", "place"), key_cases())
def test_it_lists_signs_and_tests(name: str, kind: str, place: str) -> None:
    with _tool(name, kind, place) as tool:
        assert TESTED.get((name, place), "No errors") in tool.test()
        listed = tool("--list-objects")
        assert listed.count("Private Key Object") == listed.count("Certificate Object") == len(tool.projects)
        last = key_ids(name)[len(tool.projects) - 1]
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            _sign_and_verify(tool, Path(folder), "digest-info" if name in ONLY_DIGEST_INFO else kind, last)


def _sign_and_verify(tool: Tool, folder: Path, kind: str, key_id: str) -> None:
    content, signature, certificate = folder / "content", folder / "signature", folder / "certificate"
    digest = hashlib.sha256(CONTENT).digest()
    content.write_bytes(DIGEST_INFO + digest if kind == "digest-info" else CONTENT)
    files = ["--input-file", str(content), "--output-file", str(signature)]
    tool("--sign", "--id", key_id, *SIGN.get(kind, SIGN_EC), *files)
    tool("--read-object", "--type", "cert", "--id", key_id, "--output-file", str(certificate), login=False)
    public = x509.load_der_x509_certificate(certificate.read_bytes()).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature.read_bytes(), CONTENT, padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(signature.read_bytes(), CONTENT, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
