"""The first finger of an emulated card with its own sensor: only under an operator's word, and the PIN on its pad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.authorisation import SpentNumbers, Statement, new_statement
from sdbox.smartcard.enrolment_on_card import OnCardDesk, enrol_on_card
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.emulator import CardPlan, make_card
from sdbox.smartcard.virtual.personalise import Issuer, Project, card_serial
from sdbox.smartcard.virtual.sensor import Sensor
from tests.unit.test_smartcard_enrolment import CENTRE, Operator

ISSUER = Issuer.create()
PROJECTS = (Project("atlas"),)
AID = bytes.fromhex(variant_named("sc-hsm-bio").aid or "")
SELECT = bytes.fromhex("00A404000BE82B0601040181C31F0201")
SELECT_MANAGER = bytes.fromhex("00A404000AD276000172536F434D01")
RIGHT = {"pin": "pin", "touch": "thumb", "touch-again": "thumb"}


@dataclass
class Table:
    """A card, its sensor, and a holder who does what `holder` says at each prompt."""

    card: VirtualCard
    sensor: Sensor
    serial: str
    folder: Path

    def enrol(self, statement: Statement | None = None, holder: Mapping[str, str] = RIGHT) -> Statement:
        word = Operator().word(statement or new_statement(self.serial, "1042", 1))
        spent = SpentNumbers(self.folder / "spent")
        desk = OnCardDesk(CENTRE.certificate, spent, lambda what: self.sensor.rest(holder.get(what)))
        return enrol_on_card(lambda command: self.card.process(bytes(command)), AID, word, desk)

    def refused(self, statement: Statement | None = None, holder: Mapping[str, str] = RIGHT) -> Reason:
        with pytest.raises(Refusal) as refused:
            self.enrol(statement, holder)
        return refused.value.reason

    def has_finger(self) -> bool:
        self.card.process(SELECT)
        return self.card.process(bytes.fromhex("00200085")) != b"\x6a\x88"

    @property
    def spent(self) -> bool:
        return (self.folder / "spent").exists()


def table(variant: str, folder: Path, finger: str) -> Table:
    plan = CardPlan(variant, PROJECTS, ISSUER, touch_seconds=0.01, finger=finger)
    card, sensor = make_card(plan, lambda _event: None)
    return Table(card, sensor, f"SDB{card_serial(variant, PROJECTS)}", folder)


@pytest.fixture(params=["sc-hsm-bio", "goid"])
def blank(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    return table(request.param, tmp_path, "")


def test_a_finger_is_taken_once_and_known_afterwards(blank: Table) -> None:
    assert not blank.has_finger()
    statement = new_statement(blank.serial, "1042", 1)
    assert blank.enrol(statement) == statement
    assert blank.has_finger()
    assert blank.sensor.enrolled == "thumb"
    assert blank.refused() is Reason.ENROLMENT_REFUSED, "this is for the first finger"


def test_a_word_for_another_card_or_used_before_does_nothing(blank: Table) -> None:
    assert blank.refused(new_statement("SDB0", "1042", 1)) is Reason.ENROLMENT_REFUSED
    assert not blank.spent
    statement = new_statement(blank.serial, "1042", 1)
    SpentNumbers(blank.folder / "spent").spend(statement)
    assert blank.refused(statement) is Reason.ENROLMENT_REFUSED
    assert not blank.has_finger()


@pytest.mark.parametrize(("typed", "reason"), [("1111", Reason.CARD_PIN), (None, Reason.CARD_TIMEOUT)])
def test_without_the_pin_the_word_is_not_used(blank: Table, typed: str | None, reason: Reason) -> None:
    holder = {**RIGHT, "pin": typed} if typed else {}
    assert blank.refused(holder={name: value for name, value in holder.items() if value}) is reason
    assert not blank.spent
    assert not blank.has_finger()


def test_several_fingers_are_none(blank: Table) -> None:
    assert blank.refused(holder={"pin": "pin", "touch": "thumb"}) is Reason.CARD_TIMEOUT
    assert blank.spent, "another word is needed now"
    assert not blank.has_finger()


def test_the_manager_takes_nothing_before_the_pin(blank: Table) -> None:
    blank.card.process(SELECT_MANAGER)
    blank.sensor.rest("thumb")
    assert blank.card.process(bytes.fromhex("00240040")) == b"\x69\x82"
    blank.sensor.rest("pin")
    assert blank.card.process(bytes.fromhex("00200080")) == b"\x90\x00"
    blank.card.power()
    blank.card.process(SELECT_MANAGER)
    assert blank.card.process(bytes.fromhex("00240040")) == b"\x69\x82", "a reset ends what the PIN allowed"


def test_the_pin_on_the_pad_has_three_tries(blank: Table) -> None:
    blank.card.process(SELECT_MANAGER)
    blank.sensor.rest("other")
    answers = [blank.card.process(bytes.fromhex("00200080")).hex() for _ in range(4)]
    assert answers == ["63c2", "63c1", "6983", "6983"]


def test_a_blank_card_gives_no_login(blank: Table) -> None:
    blank.card.process(SELECT)
    blank.sensor.rest("good")
    assert blank.card.process(bytes.fromhex("0020008100"))[-2:] != b"\x90\x00"


@pytest.mark.parametrize("variant", ["sc-hsm-bio", "goid"])
def test_both_applications_count_with_one_counter(variant: str) -> None:
    """A wrong finger costs a try and is told, whichever of them asks for it."""
    events: list[str] = []
    card, sensor = make_card(CardPlan(variant, PROJECTS, ISSUER, touch_seconds=0.01), events.append)
    sensor.rest("wrong")
    for tries in (2, 1, 0):
        card.process(SELECT_MANAGER)
        compared = card.process(bytes.fromhex("00200040"))
        card.process(SELECT)
        assert compared == card.process(bytes.fromhex("00200081"))
        assert events[-1] == f"verify tries={tries}"
    sensor.rest("good")
    card.process(SELECT_MANAGER)
    assert card.process(bytes.fromhex("00200040")) == bytes.fromhex("6983")
