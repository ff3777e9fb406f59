"""What the booted box shows of a card that is nearly blocked, or partly useless; cards that answer at length."""

from __future__ import annotations

import json

import pytest

from sdbox.bench.hands import Hands
from sdbox.bench.lab import Lab
from sdbox.bench.stand import Card
from sdbox.bench.way import DEVELOPMENT_PIN

from .conftest import Desk

pytestmark = [pytest.mark.system, pytest.mark.root]


def verifies(hands: Hands) -> list[str]:
    """Return what the card was asked and what came of it: logins at the wire, and comparisons."""
    return [text for text, _ in hands.card.events() if text == "asked" or text.startswith("verify ")]


def enter(hands: Hands, project: str) -> None:
    """Insert the card, verify its holder, open the project."""
    if hands.insert(["finger", "pin"]) == "finger":
        hands.finger("good", ["pick"])
    else:
        hands.pin(DEVELOPMENT_PIN, ["pick"])
    hands.pick(project)


@pytest.mark.parametrize("variant", ["isoapplet", "openpgp"])
def test_cards_that_answer_at_length(desk: Desk, variant: str) -> None:
    """Extended APDUs through the reader's driver; the certificate of an OpenPGP card is one long answer."""
    with desk(Card(variant, ("atlas",))) as hands:
        hands.wait_back()
        enter(hands, "atlas")
        hands.remove()
        assert verifies(hands) == ["asked", "verify tries=3"]


def test_the_last_try_is_asked_for_and_can_be_kept(desk: Desk) -> None:
    with desk(Card("sc-hsm-bio", ("atlas",))) as hands:
        hands.wait_back()
        hands.insert(["finger"])
        assert hands.finger("stranger", ["refused"]) == "refused"
        hands.acknowledge("finger")
        assert hands.finger("stranger", ["last-try"]) == "last-try"
        hands.keep(hands.machine.screenshot(), "last-try")
        hands.machine.press("esc")
        assert hands.see(["refused"], picture="kept") == "refused"
        assert hands.last_code() == "card-last-try"
        hands.remove()
        assert hands.insert(["last-try"]) == "last-try"
        assert verifies(hands) == ["asked", "verify tries=2", "asked", "verify tries=1"]
        hands.machine.press("down")  # the answer that the cursor is on is no
        hands.acknowledge("finger")
        assert hands.finger("good") == "pick"
        assert verifies(hands)[4:] == ["asked", "verify tries=3"]


def test_containers_are_shown_for_what_they_are(desk: Desk, lab: Lab) -> None:
    """One expired, one twice, one without a bubble; then the one that is open is revoked."""
    with desk(
        Card("sc-hsm-bio", ("atlas", "boreal", "cassini"), ("--expired", "boreal", "--duplicate", "atlas"))
    ) as hands:
        hands.wait_back()
        hands.insert(["finger"])
        hands.finger("good", ["pick"])
        hands.keep(hands.machine.screenshot(), "greyed")
        hands.pick("atlas")
        opened = [
            event for event in map(json.loads, lab.gateway.admin("audit").splitlines()) if event["event"] == "opened"
        ]
        lab.gateway.admin("revoke", "--certificate", opened[-1]["certificate"])
        assert hands.see(["refused"], picture="revoked-in-session") == "refused"
        assert hands.last_code() == "certificate-revoked"
        hands.acknowledge("pick")
        hands.keep(hands.machine.screenshot(), "greyed-revoked")
        assert lab.peers() == 0
        hands.remove()
        assert verifies(hands) == ["asked", "verify tries=3"]
