"""Cards in the reader of a booted box: PIN instead of finger, wrong finger, wrong PIN, what is on the card."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from sdbox.bench import way
from sdbox.bench.lab import Lab
from sdbox.bench.stand import Card
from sdbox.bench.way import DEVELOPMENT_PIN

from .conftest import Desk, gateway_with
from .test_card_states import verifies

pytestmark = [pytest.mark.system, pytest.mark.root]


def test_piv_card_with_pin_goes_the_whole_way(desk: Desk, lab: Lab) -> None:
    with desk(Card("piv")) as hands:
        hands.wait_back()
        result = way.go(hands, lab)
    assert result.seen == ("insert-card", "desktop:atlas", "desktop:boreal", "insert-card")
    assert result.peers_left == 0


def test_goid_card_goes_the_whole_way_by_finger(desk: Desk, lab: Lab) -> None:
    """The image holds the root by which OpenSC believes the card, and OpenSC has what its channel needs."""
    with desk(Card("goid")) as hands:
        hands.wait_back()
        result = way.go(hands, lab)
        events = [text for text, _ in hands.card.events()]
    assert result.seen == ("insert-card", "desktop:atlas", "desktop:boreal", "insert-card")
    assert result.peers_left == 0
    assert events.index("channel") < events.index("sensor wait")


def test_wrong_finger_spends_one_try_and_can_be_repeated(desk: Desk) -> None:
    with desk(Card("sc-hsm-bio")) as hands:
        hands.wait_back()
        hands.insert(["finger"])
        assert hands.finger("stranger", ["refused"]) == "refused"
        assert hands.last_code() == "card-finger"
        hands.keep(hands.machine.screenshot(), "wrong-finger")
        assert verifies(hands) == ["asked", "verify tries=2"]
        hands.acknowledge("finger")
        assert hands.finger("good") == "pick"
        hands.remove()
        assert verifies(hands) == [
            "asked",
            "verify tries=2",
            "asked",
            "verify tries=3",
        ]  # nothing more later


def test_wrong_pin_spends_one_try(desk: Desk) -> None:
    with desk(Card("piv")) as hands:
        hands.wait_back()
        hands.insert(["pin"])
        assert hands.pin("999999", ["refused"]) == "refused"
        assert hands.last_code() == "card-pin"
        hands.keep(hands.machine.screenshot(), "wrong-pin")
        assert verifies(hands) == ["asked", "verify tries=2"]
        hands.acknowledge("pin")
        assert hands.pin(DEVELOPMENT_PIN) == "pick"
        hands.remove()
        assert verifies(hands) == [
            "asked",
            "verify tries=2",
            "asked",
            "verify tries=3",
        ]  # nothing more later


def test_expired_certificate_opens_nothing_and_costs_the_others_nothing(desk: Desk) -> None:
    with desk(Card("sc-hsm-bio", ("atlas", "boreal"), ("--expired", "atlas"))) as hands:
        hands.wait_back()
        hands.insert(["finger"])
        assert hands.finger() == "pick"
        hands.keep(hands.machine.screenshot(), "expired")
        assert hands.last_code() == "certificate-expired"
        hands.machine.press("1")
        assert hands.pick("boreal") == "desktop:boreal"
        hands.remove()
    assert "grant" in [mark.name for mark in hands.timeline.marks]
    assert len([mark for mark in hands.timeline.marks if mark.name == "picked"]) == 1


def test_project_without_a_bubble_is_refused(desk: Desk) -> None:
    with desk(Card("sc-hsm-bio", ("cassini",))) as hands:
        hands.wait_back()
        hands.insert(["finger"])
        hands.finger("good", ["pick"])
        assert hands.last_code() == "project-no-bubble"
        hands.keep(hands.machine.screenshot(), "no-bubble")
        hands.machine.press("1")
        hands.machine.press("ret")
        hands.remove()
    assert "picked" not in [mark.name for mark in hands.timeline.marks]


def test_a_bubble_that_the_card_has_no_container_for_is_refused_by_the_box(desk: Desk, lab: Lab) -> None:
    program, card = (sys.executable, "-m", "tests.system.lying_gateway", "generous"), Card("piv", ("atlas",))
    with gateway_with(lab, dataclasses.replace(lab.gateway.settings, program=program)), desk(card) as hands:
        hands.wait_back()
        hands.insert(["pin"])
        assert hands.pin(DEVELOPMENT_PIN, ["refused"]) == "refused"
        assert hands.last_code() == "protocol"
        hands.keep(hands.machine.screenshot(), "offered-not-on-card")
        hands.machine.press("ret")
        hands.machine.press("2")
        hands.remove()
    assert not {"picked", "grant"} & {mark.name for mark in hands.timeline.marks}


def test_a_gateway_that_denies_the_container_is_told_on_the_screen(desk: Desk, lab: Lab) -> None:
    """A sound box asks for no bubble without a container: the list has none. The centre may see it otherwise."""
    program, card = (sys.executable, "-m", "tests.system.lying_gateway", "forgetful"), Card("piv", ("atlas",))
    with gateway_with(lab, dataclasses.replace(lab.gateway.settings, program=program)), desk(card) as hands:
        hands.wait_back()
        hands.insert(["pin"])
        hands.pin(DEVELOPMENT_PIN, ["pick"])
        assert hands.pick("atlas", ["refused"], picture="denied") == "refused"
        assert hands.last_code() == "project-not-on-card"
        hands.remove()
    assert "grant" not in {mark.name for mark in hands.timeline.marks}
