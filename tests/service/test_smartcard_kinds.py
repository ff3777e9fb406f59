"""Full cards, and every kind of key through the worker: what the module can pad decides how an RSA key signs."""

from __future__ import annotations

import asyncio

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, running_pcscd
from sdbox.bench.card_stack import Stack
from sdbox.bench.softtoken import PIN
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.certificates import Scheme, is_signed_by, public_key_of
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root
P256, P384, PSS, PKCS1 = (
    Scheme.ECDSA_SECP256R1_SHA256,
    Scheme.ECDSA_SECP384R1_SHA384,
    Scheme.RSA_PSS_RSAE_SHA256,
    Scheme.RSA_PKCS1_SHA256_LEGACY,
)


async def sign_with_last(stack: Stack, name: str) -> tuple[CardIdentity, Scheme]:
    """Log in, sign with the last container's key, check the signature."""
    async with await CardWorker.start(variant_named(name), READER, python=stack.python) as worker:
        identity = await worker.login(bytearray(PIN.encode()))
        container = identity.containers[-1]
        scheme, signature = await worker.sign(container.key_id, b"content", SCHEMES)
        key = public_key_of(container.certificate)
        assert key is not None
        assert is_signed_by(key, Scheme(scheme), b"content", signature)
        return identity, Scheme(scheme)


@pytest.mark.parametrize(
    ("place", "name", "kind", "expected"),
    [
        ("host", "gids", "rsa2048", PKCS1),
        ("box", "gids", "rsa2048", PKCS1),
        ("host", "openpgp", "rsa2048", PKCS1),
        ("box", "openpgp", "p384", P384),
        ("host", "isoapplet", "rsa2048", PKCS1),
        ("box", "isoapplet", "rsa2048", PSS),
        ("box", "isoapplet", "p256", P256),
        ("box", "isoapplet", "p384", P384),
        ("host", "myeid", "rsa2048", PSS),
        ("box", "myeid", "p384", P384),
        ("host", "piv", "p384", P384),
        ("box", "piv", "rsa2048", PSS),
    ],
)
def test_each_kind_of_key_signs_as_well_as_its_module_can(place: str, name: str, kind: str, expected: Scheme) -> None:
    stack = stack_named(place)
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, ("atlas",), ["--keys", kind]) as card:
        card.insert()
        stack.wait_for_card(READER)
        assert asyncio.run(sign_with_last(stack, name))[1] is expected


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [("gids", "rsa2048", 20), ("isoapplet", "p256", 16), ("myeid", "p256", 14), ("piv", "p256", 21)],
)
@pytest.mark.parametrize("place", ["box"])
def test_a_full_card(place: str, name: str, kind: str, size: int) -> None:
    stack = stack_named(place)
    projects = [f"project-{number}" for number in range(size)]
    with running_pcscd(stack) as pcscd, emulated_card(pcscd, name, projects, ["--keys", kind]) as card:
        card.insert()
        stack.wait_for_card(READER)
        identity, _ = asyncio.run(sign_with_last(stack, name))
        assert [container.project for container in identity.containers] == projects
        assert card.verifies == 1
