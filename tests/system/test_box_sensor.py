"""A card that compares a finger from the box's own sensor: the whole way without a PIN, and what goes wrong on it."""

from __future__ import annotations

import pytest

from sdbox.bench.stand import Card

from .conftest import Desk

pytestmark = [pytest.mark.system, pytest.mark.root]


def test_wrong_finger_costs_one_try_and_the_right_one_opens_both_desktops(desk: Desk) -> None:
    with desk(Card("piv-occ")) as hands:
        hands.wait_back()
        assert hands.insert(["finger"]) == "finger"
        assert hands.finger("stranger", ["refused"]) == "refused"
        assert hands.last_code() == "card-finger"
        hands.keep(hands.machine.screenshot(), "wrong-finger")
        hands.acknowledge("finger")
        assert hands.finger("good") == "pick"
        assert hands.pick("atlas", picture="atlas") == "desktop:atlas"
        assert hands.switch("boreal") == "desktop:boreal"
        told = [text for text, _ in hands.card.events()]
        hands.remove()
    assert [event for event in told if event.startswith("verify ")] == ["verify tries=2", "verify tries=3"]
    assert told.count("sensor template") == 2
    assert "sign" in told


def test_a_card_without_a_finger_says_so_and_no_finger_is_asked_for(desk: Desk) -> None:
    with desk(Card("piv-occ", options=("--finger", ""))) as hands:
        hands.wait_back()
        assert hands.insert(["refused"]) == "refused"
        assert hands.last_code() == "card-no-finger"
        hands.keep(hands.machine.screenshot(), "no-finger")
        assert not [text for text, _ in hands.card.events() if text.startswith(("sensor", "asked", "verify"))]
