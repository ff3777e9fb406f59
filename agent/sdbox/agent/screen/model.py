"""What the screen knows: the agent's properties, frozen where they enter, and what the user has done here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.texts import Language
from sdbox.protocol.reasons import Reason, parse_reason

UNKNOWN_TRIES = -1


@dataclass(frozen=True, slots=True)
class Project:
    """A container of the card. `reason` is None if it can be opened, `fresh` if its holder is verified for it anew."""

    name: str
    title_fr: str
    title_en: str
    reason: Reason | None = None
    fresh: bool = False

    def title(self, language: Language) -> str:
        return (self.title_fr if language is Language.FRENCH else self.title_en) or self.name


@dataclass(frozen=True, slots=True)
class AgentProperties:
    """The properties of org.sdbox.Agent1. The default is an agent that is not there yet."""

    state: ScreenState = ScreenState.STARTING
    reason: Reason | None = None
    tries: int = UNKNOWN_TRIES
    projects: tuple[Project, ...] = ()
    current: str = ""
    box_id: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Local:
    """What the user did on this screen: language, highlighted project, number of PIN digits typed."""

    language: Language = Language.FRENCH
    selected: str = ""
    digits: int = 0


def absent(before: AgentProperties | None) -> AgentProperties:
    """Return what is shown for an agent that is not on the bus: it starts; or, if it was there `before`, it has ended.

    It is not started again by itself, so that the screen must not go on saying that it starts.
    """
    if before is None:
        return AgentProperties()
    return AgentProperties(ScreenState.REFUSED, Reason.INTERNAL, box_id=before.box_id, version=before.version)


def parse_properties(raw: Mapping[str, object]) -> AgentProperties:
    """Return the properties of a GetAll reply (unpacked). What does not fit is shown as `protocol`."""
    try:
        return AgentProperties(
            state=ScreenState(_text(raw, "State")),
            reason=_reason(_text(raw, "Reason")),
            tries=_number(raw, "Tries"),
            projects=_projects(raw["Projects"]),
            current=_text(raw, "Current"),
            box_id=_text(raw, "BoxId"),
            version=_text(raw, "Version"),
        )
    except (KeyError, ValueError):
        return AgentProperties(state=ScreenState.REFUSED, reason=Reason.PROTOCOL)


def _text(raw: Mapping[str, object], name: str) -> str:
    value = raw[name]
    if not isinstance(value, str):
        raise ValueError(name)  # noqa: TRY004 - one error for every wrong value from the wire
    return value


def _number(raw: Mapping[str, object], name: str) -> int:
    value = raw[name]
    if not isinstance(value, int):
        raise ValueError(name)  # noqa: TRY004 - one error for every wrong value from the wire
    return value


def _reason(code: str) -> Reason | None:
    return parse_reason(code) if code else None


def _projects(value: object) -> tuple[Project, ...]:
    if not isinstance(value, list):
        raise ValueError("Projects")  # noqa: TRY004 - one error for every wrong value from the wire
    return tuple(_project(item) for item in value)


def _project(item: object) -> Project:
    match item:
        case (str(name), str(title_fr), str(title_en), str(code), bool(fresh)):
            return Project(name, title_fr, title_en, _reason(code), fresh)
        case _:
            raise ValueError("Projects")
