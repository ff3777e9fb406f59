"""Properties to picture, without GTK."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdbox.agent.screen import texts as t
from sdbox.agent.screen.actions import Select, action_of
from sdbox.agent.screen.keys import Key
from sdbox.agent.screen.model import AgentProperties, Local, Project, absent, parse_properties
from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.texts import Language
from sdbox.agent.screen.view import VISIBLE_ROWS, project_rows, view_of
from sdbox.protocol.explanations import EXPLANATIONS
from sdbox.protocol.reasons import Reason

ATLAS = Project("atlas", "Atlas, coeur", "Atlas, heart")
BOREAL = Project("boreal", "Boréal", "Boreal")
CASSINI = Project("cassini", "Cassini", "Cassini", Reason.PROJECT_NO_BUBBLE)
PICK = AgentProperties(
    ScreenState.PICK, projects=(CASSINI, ATLAS, BOREAL), box_id="7c1e9a42-5b1d-4a5e-9e55-0d6f0b8f2a11"
)
RAW: dict[str, object] = {
    "State": "refused",
    "Reason": "card-pin",
    "Tries": 2,
    "Projects": [
        ("atlas", "Atlas, coeur", "Atlas, heart", "", True),
        ("cassini", "Cassini", "Cassini", "project-no-bubble", False),
    ],
    "Current": "",
    "BoxId": "7c1e9a42-5b1d-4a5e-9e55-0d6f0b8f2a11",
    "Version": "0.1.0",
}
FRENCH = Local()
ENGLISH = Local(Language.ENGLISH)


@pytest.mark.parametrize("state", ScreenState)
@pytest.mark.parametrize("local", [FRENCH, ENGLISH])
def test_every_state_shows_where_the_box_is_and_which(state: ScreenState, local: Local) -> None:
    view = view_of(replace(PICK, state=state, version="0.1.0"), local)
    assert view.status
    assert view.headline
    assert "7c1e9a42" in view.box
    assert "0.1.0" in view.box
    assert "5b1d" not in view.box
    assert view.language_key.startswith("F2")


def test_without_an_agent_nothing_of_a_box_or_a_card_is_shown() -> None:
    view = view_of(AgentProperties(), FRENCH)
    assert view.state is ScreenState.STARTING
    assert (view.rows, view.code, view.tries) == ((), "", "")


def test_a_project_that_cannot_be_opened_says_why_and_is_not_selected() -> None:
    closed, first, second = view_of(PICK, ENGLISH).rows
    assert (closed.enabled, closed.selected, closed.note) == (
        False,
        False,
        EXPLANATIONS[Reason.PROJECT_NO_BUBBLE].english,
    )
    assert (first.number, first.title, first.enabled, first.selected) == (2, "Atlas, heart", True, True)
    assert (second.enabled, second.selected) == (True, False)


def test_the_users_choice_is_the_selected_one_unless_it_went() -> None:
    assert [row.selected for row in project_rows(PICK, Local(selected="boreal"))] == [False, False, True]
    assert [row.selected for row in project_rows(PICK, Local(selected="cassini"))] == [False, True, False]


def test_in_the_picker_the_current_project_is_named_and_not_offered_again() -> None:
    rows = view_of(replace(PICK, state=ScreenState.PICKER, current="atlas"), FRENCH).rows
    assert (rows[1].enabled, rows[1].note) == (False, "Projet en cours")
    assert rows[2].selected


def test_a_long_list_shows_the_rows_around_the_selected_one() -> None:
    many = tuple(Project(f"p{index}", f"P{index}", f"P{index}") for index in range(1, 25))
    rows = view_of(replace(PICK, projects=many), Local(selected="p20")).rows
    assert len(rows) == VISIBLE_ROWS
    assert [row.project for row in rows if row.selected] == ["p20"]
    assert rows[0].number == 0
    assert view_of(replace(PICK, projects=many), Local(selected="p20")).message.endswith("Lignes 18 à 21 sur 24.")


def test_a_project_that_wants_its_holder_verified_says_so_before_it_is_picked() -> None:
    (row,) = view_of(replace(PICK, projects=(replace(ATLAS, fresh=True),)), ENGLISH).rows
    assert (row.enabled, row.note, row.code) == (True, "You will be verified again", "")


def test_a_second_container_of_a_project_is_shown_closed_and_shifts_no_number() -> None:
    twin = replace(ATLAS, reason=Reason.CONTAINER_DUPLICATE)
    rows = view_of(replace(PICK, projects=(ATLAS, twin, BOREAL)), FRENCH).rows
    assert [(row.number, row.enabled, row.selected, row.code) for row in rows] == [
        (1, True, True, ""),
        (0, False, False, "container-duplicate"),
        (2, True, False, ""),
    ]


def test_every_closed_row_of_a_long_list_can_be_brought_to_the_screen() -> None:
    many = tuple(Project(f"p{index:02}", "", "", Reason.CERTIFICATE_EXPIRED if index else None) for index in range(20))
    properties, local = replace(PICK, projects=many), FRENCH
    shown = set()
    for _ in many:
        shown |= {row.project for row in view_of(properties, local).rows}
        action = action_of(properties, local, Key.DOWN)
        assert isinstance(action, Select)
        local = replace(local, selected=action.row)
    assert shown == {project.name for project in many}


def test_projects_are_shown_only_where_one_is_picked() -> None:
    assert view_of(replace(PICK, state=ScreenState.INSERT_CARD), FRENCH).rows == ()


@pytest.mark.parametrize("state", [ScreenState.CONNECTING, ScreenState.SESSION])
def test_the_open_project_is_named(state: ScreenState) -> None:
    assert view_of(replace(PICK, state=state, current="boreal"), FRENCH).headline == "Boréal"


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_shows_sentence_advice_and_code(reason: Reason) -> None:
    view = view_of(AgentProperties(ScreenState.REFUSED, reason), ENGLISH)
    assert (view.headline, view.code) == (EXPLANATIONS[reason].english, reason.value)
    assert view.message
    assert view.headline.rstrip(".") in view.announcement


def test_tries_are_shown_for_finger_pin_and_refusal_only() -> None:
    with_tries = {state for state in ScreenState if view_of(replace(PICK, state=state, tries=2), ENGLISH).tries}
    assert with_tries == {ScreenState.FINGER, ScreenState.PIN, ScreenState.LAST_TRY, ScreenState.REFUSED}


@pytest.mark.parametrize("local", [FRENCH, ENGLISH])
def test_before_the_last_try_the_screen_says_what_is_at_stake(local: Local) -> None:
    first = view_of(AgentProperties(ScreenState.LAST_TRY, Reason.CARD_LAST_TRY, tries=1), local)
    after = view_of(AgentProperties(ScreenState.LAST_TRY, Reason.CARD_FINGER, tries=1), local)
    assert (first.code, after.code) == ("card-last-try", "card-finger")
    assert first.headline.endswith("?")
    assert first.tries
    assert after.message.startswith(t.explain(Reason.CARD_FINGER, local.language))
    assert [(row.number, row.enabled, row.selected) for row in first.rows] == [(0, True, True), (0, True, False)]


def test_the_pin_is_known_to_the_view_by_its_length_only() -> None:
    assert view_of(AgentProperties(ScreenState.PIN), Local(digits=6)).digits == 6
    assert view_of(AgentProperties(ScreenState.FINGER), Local(digits=6)).digits is None


def test_a_reply_of_the_bus_becomes_properties() -> None:
    properties = parse_properties(RAW)
    assert (properties.state, properties.reason, properties.tries) == (ScreenState.REFUSED, Reason.CARD_PIN, 2)
    assert [project.reason for project in properties.projects] == [None, Reason.PROJECT_NO_BUBBLE]


@pytest.mark.parametrize(
    "wrong",
    [
        {"State": "open-sesame"},
        {"State": 3},
        {"Tries": "2"},
        {"Projects": "atlas"},
        {"Projects": [("atlas", "Atlas")]},
        {"Projects": [("atlas", "Atlas", "Atlas", 0, False)]},
        {"BoxId": None},
    ],
)
def test_a_reply_that_does_not_fit_is_a_refusal(wrong: dict[str, object]) -> None:
    assert parse_properties(RAW | wrong) == AgentProperties(ScreenState.REFUSED, Reason.PROTOCOL)


@pytest.mark.parametrize("missing", RAW)
def test_a_reply_without_a_property_is_a_refusal(missing: str) -> None:
    left = {name: value for name, value in RAW.items() if name != missing}
    assert parse_properties(left).reason is Reason.PROTOCOL


def test_an_agent_that_has_ended_does_not_start_for_ever() -> None:
    ended = absent(parse_properties(RAW))
    assert (ended.state, ended.reason) == (ScreenState.REFUSED, Reason.INTERNAL)
    for local in (FRENCH, ENGLISH):
        view = view_of(ended, local)
        assert view.headline == t.explain(Reason.INTERNAL, local.language)
        assert "7C1E" in view.box.upper()
    assert absent(None) == AgentProperties()
