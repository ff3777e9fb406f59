"""What a key does in a state. A key that is not listed for the state does nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.agent.screen.keys import Key
from sdbox.agent.screen.model import AgentProperties, Local
from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.pin import MINIMUM
from sdbox.agent.screen.view import GO_ON, Row, rows_of


@dataclass(frozen=True, slots=True)
class Pick:
    project: str


@dataclass(frozen=True, slots=True)
class Select:
    row: str


@dataclass(frozen=True, slots=True)
class TypeDigit:
    digit: str


@dataclass(frozen=True, slots=True)
class EraseDigit:
    pass


@dataclass(frozen=True, slots=True)
class SubmitPin:
    pass


@dataclass(frozen=True, slots=True)
class Cancel:
    pass


@dataclass(frozen=True, slots=True)
class Acknowledge:
    pass


@dataclass(frozen=True, slots=True)
class Confirm:
    pass


@dataclass(frozen=True, slots=True)
class SwitchLanguage:
    pass


Action = Pick | Select | TypeDigit | EraseDigit | SubmitPin | Cancel | Acknowledge | Confirm | SwitchLanguage

CANCELLABLE = frozenset({ScreenState.PIN, ScreenState.LAST_TRY, ScreenState.PICKER, ScreenState.CONNECTING})

ACKNOWLEDGED = frozenset({ScreenState.REFUSED, ScreenState.INSERT_CARD})  # the second: use the card that stayed in


def action_of(properties: AgentProperties, local: Local, key: Key) -> Action | None:
    """Return what `key` does now, or None. A PIN too short to be one is not sent: it would cost a try (S7)."""
    state = properties.state
    if key is Key.LANGUAGE:
        return SwitchLanguage()
    if key is Key.ESCAPE:
        return Cancel() if state in CANCELLABLE else None
    if state in ACKNOWLEDGED:
        return Acknowledge() if key is Key.ENTER else None
    if state is ScreenState.PIN:
        return _pin_action(local, key)
    action = _list_action(rows_of(properties, local), key)
    if state is ScreenState.LAST_TRY and isinstance(action, Pick):
        return Confirm() if action.project == GO_ON else Cancel()
    return action


def _pin_action(local: Local, key: Key) -> Action | None:
    if key is Key.ENTER:
        return SubmitPin() if local.digits >= MINIMUM else None
    if key is Key.ERASE:
        return EraseDigit()
    return TypeDigit(key.value) if key.value.isdigit() else None


def _list_action(rows: tuple[Row, ...], key: Key) -> Action | None:
    if key is Key.ENTER:
        return next((Pick(row.project) for row in rows if row.selected and row.enabled), None)
    if key in {Key.UP, Key.DOWN}:
        return _move(rows, -1 if key is Key.UP else 1)
    return next((Pick(row.project) for row in rows if row.enabled and str(row.number) == key.value != "0"), None)


def _move(rows: tuple[Row, ...], direction: int) -> Action | None:
    place = next((index for index, row in enumerate(rows) if row.selected), None)
    if place is None:
        return None
    return Select(rows[min(max(place + direction, 0), len(rows) - 1)].key)
