"""What is shown, and what a key means: pure functions of the agent's properties and the user's doings. No GTK here."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.agent.screen import texts as t
from sdbox.agent.screen.model import AgentProperties, Local, Project
from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.texts import Language, Text
from sdbox.protocol.reasons import Reason

LISTS = frozenset({ScreenState.PICK, ScreenState.PICKER})
WITH_TRIES = frozenset({ScreenState.FINGER, ScreenState.PIN, ScreenState.LAST_TRY, ScreenState.REFUSED})
VISIBLE_ROWS = 4  # each with a reason below its title: what 1280 x 800 pixels hold
NUMBERED = 9

_STEP = {
    ScreenState.STARTING: 0,
    ScreenState.NETWORK: 0,
    ScreenState.ATTESTING: 0,
    ScreenState.INSERT_CARD: 1,
    ScreenState.READING_CARD: 1,
    ScreenState.FINGER: 1,
    ScreenState.PIN: 1,
    ScreenState.LAST_TRY: 1,
    ScreenState.PICK: 2,
    ScreenState.PICKER: 2,
    ScreenState.CONNECTING: 3,
    ScreenState.SESSION: 3,
    ScreenState.CLOSING: 3,
}
_REFUSED_STEP = {"card": 1, "certificate": 2, "container": 2, "project": 2, "tunnel": 3, "desktop": 3, "session": 3}

GO_ON = "go-on"  # names in Row.project where the rows are not projects
GIVE_UP = "give-up"

_KEYS: dict[ScreenState, tuple[tuple[Text, Text], ...]] = {
    ScreenState.INSERT_CARD: ((t.KEY_ENTER, t.DO_READ_AGAIN),),
    ScreenState.PIN: ((t.KEY_ENTER, t.DO_VALIDATE), (t.KEY_ERASE, t.DO_ERASE), (t.KEY_ESCAPE, t.DO_CLEAR)),
    ScreenState.LAST_TRY: ((t.KEY_ARROWS, t.DO_CHOOSE), (t.KEY_ENTER, t.DO_VALIDATE), (t.KEY_ESCAPE, t.DO_CANCEL)),
    ScreenState.PICK: ((t.KEY_DIGITS, t.DO_OPEN), (t.KEY_ARROWS, t.DO_CHOOSE), (t.KEY_ENTER, t.DO_OPEN)),
    ScreenState.PICKER: (
        (t.KEY_DIGITS, t.DO_OPEN),
        (t.KEY_ARROWS, t.DO_CHOOSE),
        (t.KEY_ENTER, t.DO_OPEN),
        (t.KEY_ESCAPE, t.DO_RETURN),
    ),
    ScreenState.CONNECTING: ((t.KEY_ESCAPE, t.DO_CANCEL),),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One container of the list, or one choice. `note` and `code` say why it is not `enabled`.

    `number` counts projects; it is 0 from the tenth on and for a further container of the same project. `key` names the
    row: arrows reach those that cannot be picked too, so that a long list shows them and a screen reader says why.
    """

    key: str
    number: int
    project: str
    title: str
    note: str
    code: str
    enabled: bool
    selected: bool


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the screen, as text. `announcement` is what a screen reader says when it changes."""

    state: ScreenState
    language: Language
    step: int
    steps: tuple[str, ...]
    status: str
    headline: str
    message: str
    code: str
    tries: str
    rows: tuple[Row, ...]
    digits: int | None
    keys: tuple[tuple[str, str], ...]
    box: str
    language_key: str
    announcement: str


def view_of(properties: AgentProperties, local: Local) -> View:
    """Return what is shown for these properties."""
    language, state = local.language, properties.state
    headline, message, code = _words(properties, language)
    tries = t.tries_left(properties.tries, language) if state in WITH_TRIES else ""
    rows = rows_of(properties, local)
    first = _first_visible(rows)
    shown = rows[first : first + VISIBLE_ROWS]
    if len(shown) < len(rows):
        message = f"{message} {t.part_of_list(first + 1, first + len(shown), len(rows), language)}"
    return View(
        state=state,
        language=language,
        step=_step(properties),
        steps=tuple(step.to(language) for step in t.STEPS),
        status=t.STATES[state].status.to(language),
        headline=headline,
        message=message,
        code=code,
        tries=tries,
        rows=shown,
        digits=local.digits if state is ScreenState.PIN else None,
        keys=tuple((key.to(language), does.to(language)) for key, does in _keys(properties)),
        box=_box_line(properties, language),
        language_key=f"F2  {t.LANGUAGE_NAME[language.other]}",
        announcement=". ".join(
            part.rstrip(".").replace("\n", " ") for part in (headline, message, code, tries) if part
        ),
    )


def rows_of(properties: AgentProperties, local: Local) -> tuple[Row, ...]:
    """Return what can be chosen from in this state."""
    if properties.state is ScreenState.LAST_TRY:
        return choice_rows(local)
    return project_rows(properties, local) if properties.state in LISTS else ()


def choice_rows(local: Local) -> tuple[Row, ...]:
    """Return the two choices before the last try. No digit takes one, and Enter alone takes the harmless one."""
    going_on = local.selected == GO_ON
    give_up, go_on = t.GIVE_UP.to(local.language), t.GO_ON.to(local.language)
    return (
        Row(GIVE_UP, 0, GIVE_UP, give_up, "", "", enabled=True, selected=not going_on),
        Row(GO_ON, 0, GO_ON, go_on, "", "", enabled=True, selected=going_on),
    )


def project_rows(properties: AgentProperties, local: Local) -> tuple[Row, ...]:
    """Return all containers as rows, the selected one marked: the user's choice, else the first that opens."""
    keys = _keys_of(properties)
    selected = _selected(properties, local, keys)
    return tuple(
        Row(
            key=key,
            number=number,
            project=project.name,
            title=project.title(local.language),
            note=_note(project, properties, local.language),
            code=project.reason.value if project.reason else "",
            enabled=_opens(project, properties),
            selected=key == selected,
        )
        for key, number, project in zip(keys, _numbers(properties), properties.projects, strict=True)
    )


def _keys_of(properties: AgentProperties) -> list[str]:
    """Name the rows: what can be picked by its project (there is one at most), the others by their place too."""
    return [
        project.name if _opens(project, properties) else f"{project.name}#{place}"
        for place, project in enumerate(properties.projects)
    ]


def _numbers(properties: AgentProperties) -> list[int]:
    """Number the projects. The second container of a project has none: a renewal must not shift the others' keys."""
    numbers: list[int] = []
    seen: set[str] = set()
    for project in properties.projects:
        fresh = project.name not in seen and len(seen) < NUMBERED
        seen.add(project.name)
        numbers.append(len(seen) if fresh else 0)
    return numbers


def short_box_id(box_id: str) -> str:
    """Return the first group of the box's UUID: enough to tell the box on the phone."""
    return box_id.partition("-")[0]


def _selected(properties: AgentProperties, local: Local, keys: list[str]) -> str:
    if local.selected in keys:
        return local.selected
    opening = (project.name for project in properties.projects if _opens(project, properties))
    return next(opening, next(iter(keys), ""))


def _opens(project: Project, properties: AgentProperties) -> bool:
    in_session = properties.state is ScreenState.PICKER and project.name == properties.current
    return project.reason is None and not in_session


def _note(project: Project, properties: AgentProperties, language: Language) -> str:
    if project.reason is not None:
        return t.explain(project.reason, language)
    if not _opens(project, properties):
        return t.CURRENT.to(language)
    return t.FRESH.to(language) if project.fresh else ""


def _first_visible(rows: tuple[Row, ...]) -> int:
    chosen = next((index for index, row in enumerate(rows) if row.selected), 0)
    return min(max(0, chosen - VISIBLE_ROWS // 2), max(0, len(rows) - VISIBLE_ROWS))


def _words(properties: AgentProperties, language: Language) -> tuple[str, str, str]:
    words = t.STATES[properties.state]
    if properties.state is ScreenState.REFUSED:
        reason = properties.reason or Reason.INTERNAL
        return t.explain(reason, language), t.ADVICE[reason].to(language), reason.value
    headline = words.headline.to(language)
    if properties.state is ScreenState.LAST_TRY:
        return headline, _before_last_try(properties, language), (properties.reason or Reason.CARD_LAST_TRY).value
    if properties.state in {ScreenState.CONNECTING, ScreenState.SESSION}:
        title = next((p.title(language) for p in properties.projects if p.name == properties.current), "")
        headline = title or headline
    return headline, words.message.to(language), ""


def _before_last_try(properties: AgentProperties, language: Language) -> str:
    """Return what the last try is about, after what was refused before it."""
    message = t.STATES[ScreenState.LAST_TRY].message.to(language)
    refused = properties.reason
    return message if refused in {None, Reason.CARD_LAST_TRY} else f"{t.explain(refused, language)}\n{message}"


def _step(properties: AgentProperties) -> int:
    if properties.state is ScreenState.REFUSED:
        family = (properties.reason or Reason.INTERNAL).value.partition("-")[0]
        return _REFUSED_STEP.get(family, 0)
    return _STEP[properties.state]


def _keys(properties: AgentProperties) -> tuple[tuple[Text, Text], ...]:
    if properties.state is ScreenState.REFUSED:
        does = _after_refusal(properties.reason or Reason.INTERNAL)
        return () if does is None else ((t.KEY_ENTER, does),)
    return _KEYS.get(properties.state, ())


def _after_refusal(reason: Reason) -> Text | None:
    """Return what Enter leads to, or None where only the card's removal or a restart helps."""
    family = reason.value.partition("-")[0]
    if reason in {Reason.CARD_IDLE, Reason.CARD_LIMIT}:
        return t.DO_RESUME
    if reason in {Reason.CARD_FINGER, Reason.CARD_UNCLEAR, Reason.CARD_SENSOR, Reason.CARD_PIN}:
        return t.DO_RETRY
    if family in {"gateway", "box"}:
        return t.DO_RETRY_NOW
    return t.DO_CONTINUE if _REFUSED_STEP.get(family, 0) > 1 else None


def _box_line(properties: AgentProperties, language: Language) -> str:
    box = short_box_id(properties.box_id) or t.NO_BOX_ID.to(language)
    version = f"{t.VERSION.to(language)} {properties.version}" if properties.version else ""
    return "  ·  ".join(part for part in ("SD-Box", box, version) if part)
