"""Cards that misbehave, and cards of no known kind: each ends in a refusal, none costs a try that nobody made (S7)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd
from sdbox.bench.softtoken import PIN
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import read_variant, variant_named
from sdbox.smartcard.virtual.faults import UNKNOWN_ATR, Fault
from tests.service.smartcard_bench import run

pytestmark = pytest.mark.root
# Each signs with another command, or through another module or channel.
CARDS = {
    "host": ("gids", "ias-ecc", "openpgp", "piv", "piv-occ", "sc-hsm-bio"),
    "box": ("goid", "yubikey-bio"),
}
CASES = [(place, name) for place, names in CARDS.items() for name in names]
for_each_card = pytest.mark.parametrize(("pcscd", "name"), CASES, indirect=["pcscd"])
COMMAND = (sys.executable, "-m", "sdbox.smartcard.cli")


@pytest.fixture(scope="module")
def pcscd(request: pytest.FixtureRequest) -> Iterator[Pcscd]:
    with running_pcscd(stack_named(getattr(request, "param", "host"))) as service:
        yield service


async def _worker(pcscd: Pcscd, card: EmulatedCard, name: str) -> CardWorker:
    card.insert()
    card.tell("auto good")
    await asyncio.to_thread(pcscd.stack.wait_for_card, READER)
    return await CardWorker.start(variant_named(name), READER, python=pcscd.stack.python)


async def _login(worker: CardWorker, name: str) -> CardIdentity:
    pin = bytearray(PIN.encode()) if variant_named(name).login.method is LoginMethod.PIN else None
    return await worker.login(pin)


async def _use(worker: CardWorker, name: str) -> None:
    """Log in and sign with the first container; without any there is nothing to sign with."""
    identity = await _login(worker, name)
    key_id = identity.containers[0].key_id if identity.containers else b"none"
    await worker.sign(key_id, b"content", SCHEMES)


@for_each_card
@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.OVERSIZED])
def test_nonsense_is_refused_and_nothing_is_tried_again(pcscd: Pcscd, name: str, fault: Fault) -> None:
    """A card that says yes to any finger opens nothing: no certificate of it comes with a signature that verifies."""

    async def scene(card: EmulatedCard) -> None:
        async with await _worker(pcscd, card, name) as worker:
            with pytest.raises(Refusal) as refused:
                await _use(worker, name)
            assert refused.value.reason in (Reason.CARD_FAILED, Reason.CARD_PROOF)

    with emulated_card(pcscd, name, options=["--fault", fault.value]) as card:
        asyncio.run(scene(card))
        assert card.events.count("sign") == 0
        assert card.verifies == 1, "the noise was answered by another login"


@for_each_card
def test_a_card_that_denies_signatures_is_refused(pcscd: Pcscd, name: str) -> None:
    async def scene(card: EmulatedCard) -> None:
        async with await _worker(pcscd, card, name) as worker:
            identity = await _login(worker, name)
            with pytest.raises(Refusal) as refused:
                await worker.sign(identity.containers[0].key_id, b"content", SCHEMES)
            assert refused.value.reason is Reason.CARD_FAILED

    with emulated_card(pcscd, name, options=["--fault", "forgetful"]) as card:
        asyncio.run(scene(card))
        assert card.verifies == 1


@for_each_card
def test_removal_within_a_signature_ends_it(pcscd: Pcscd, name: str) -> None:
    async def scene(card: EmulatedCard) -> None:
        async with await _worker(pcscd, card, name) as worker:
            identity = await _login(worker, name)
            signing = asyncio.ensure_future(worker.sign(identity.containers[0].key_id, b"content", SCHEMES))
            await asyncio.to_thread(card.expect, "hangs")
            card.remove()
            with pytest.raises(Refusal) as refused:
                await signing
            assert refused.value.reason is Reason.CARD_FAILED

    with emulated_card(pcscd, name, options=["--fault", "hangs"]) as card:
        asyncio.run(scene(card))
        assert "sign" not in card.events


def test_probe_knows_a_known_card(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "piv") as card:
        card.insert()
        seen = json.loads(run(*COMMAND, "probe", "--json").stdout)
        assert (seen["variant"], seen["fitting"]) == ("piv", ["piv"])
        assert "piv" in seen["applications"][variant_named("piv").aid].split(", ")
        assert card.verifies == 0


def test_probe_drafts_the_file_of_an_unknown_card(pcscd: Pcscd, tmp_path: Path) -> None:
    with emulated_card(pcscd, "sc-hsm-bio", options=["--fault", "unknown"]) as card:
        card.insert()
        done = run(*COMMAND, "probe", check=False)
        assert (done.returncode, card.verifies) == (1, 0)
        assert UNKNOWN_ATR.hex().upper() in done.stderr
        file = tmp_path / "new-card.toml"
        file.write_text(done.stdout)
        drafted = read_variant(file)
        assert drafted.atrs[0].matches(UNKNOWN_ATR)
        assert drafted.aid == variant_named("sc-hsm-bio").aid
