"""A container that is not as it should be costs the others nothing, nor the card its session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd
from sdbox.bench.softtoken import PIN
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import variant_named
from tests.service.smartcard_cases import ONLY_ON_THE_HOST, cases

pytestmark = pytest.mark.root
PROJECTS = ("atlas", "boreal", "cassini")
ODD = "boreal"
# Each once, with the box's own software where that can be; the label of a PIV or GIDS container is the module's.
CASES = [one for one in cases() if one[1] == ("host" if one[0] in ONLY_ON_THE_HOST else "box")]
ONE_CERTIFICATE = {"openpgp"}
# Read object by object; the list of the others' certificates ends where OpenSC can't parse one (docs/cards.md).
TO_THE_END = {"piv", "piv-occ", "yubikey-bio"}
LABELLED = [one for one in CASES if one[0] in {"goid", "isoapplet", "myeid", "sc-hsm-bio"}]


@pytest.fixture(scope="module")
def pcscd(request: pytest.FixtureRequest) -> Iterator[Pcscd]:
    with running_pcscd(stack_named(request.param)) as service:
        yield service


def opened(pcscd: Pcscd, name: str, flaw: str) -> CardIdentity:
    """Log in to a card whose second container has `flaw`, and sign with the last one."""

    async def scene() -> CardIdentity:
        async with await CardWorker.start(variant_named(name), READER, python=pcscd.stack.python) as worker:
            finger = variant_named(name).login.method is LoginMethod.FINGER
            identity = await worker.login(None if finger else bytearray(PIN.encode()))
            await worker.sign(identity.containers[-1].key_id, b"content", SCHEMES)
            return identity

    with emulated_card(pcscd, name, PROJECTS, [flaw, ODD]) as card:
        card.insert()
        card.tell("auto good")
        pcscd.stack.wait_for_card(READER)
        identity = asyncio.run(scene())
        assert card.verifies == 1
    return identity


@pytest.mark.parametrize(("name", "pcscd"), LABELLED, indirect=["pcscd"])
def test_a_label_that_is_no_utf8_is_shown_as_well_as_it_can_be(pcscd: Pcscd, name: str) -> None:
    identity = opened(pcscd, name, "--odd-label")
    assert [container.project for container in identity.containers] == list(PROJECTS)
    assert [container.label for container in identity.containers][1] in {"boreal\ufffd", "boreal"}


@pytest.mark.parametrize(("name", "pcscd"), [one for one in CASES if one[0] not in ONE_CERTIFICATE], indirect=["pcscd"])
def test_a_certificate_that_was_not_written_to_its_end_is_no_project(pcscd: Pcscd, name: str) -> None:
    identity = opened(pcscd, name, "--torn")
    found = [container.project for container in identity.containers if container.project is not None]
    assert found == (["atlas", "cassini"] if name in TO_THE_END else ["atlas"])
