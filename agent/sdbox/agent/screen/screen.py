"""Joins the parts: the agent's properties and the user's keys come in, views and calls go out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sdbox.agent.screen import actions as act
from sdbox.agent.screen.agent_link import AgentLink
from sdbox.agent.screen.keys import Key
from sdbox.agent.screen.model import AgentProperties, Local
from sdbox.agent.screen.palette import ScreenState
from sdbox.agent.screen.pin import PinBuffer
from sdbox.agent.screen.view import view_of
from sdbox.agent.screen.windows import Windows

ON_THE_WAY = {ScreenState.STARTING, ScreenState.NETWORK, ScreenState.ATTESTING}


class Screen:
    """The program. Once the first picture is up it calls `on_first_frame` and looks for the agent, not before.

    `on_rest` is called once, when the agent's own start is over and it waits for somebody.
    """

    def __init__(self, on_first_frame: Callable[[], None], on_rest: Callable[[], object]) -> None:
        self._on_first_frame = on_first_frame
        self._on_rest: Callable[[], object] | None = on_rest
        self._properties = AgentProperties()
        self._local = Local()
        self._pin = PinBuffer()
        self._agent = AgentLink(self._agent_changed)
        self._windows = Windows(self._key, self._ready)

    def run(self) -> None:
        """Show the first picture."""
        self._show()
        self._windows.present()

    def _ready(self) -> None:
        self._on_first_frame()
        self._agent.start()

    def _agent_changed(self, properties: AgentProperties) -> None:
        if properties.state is not self._properties.state:
            self._pin.wipe()  # leaving the PIN's state in any way leaves no digit behind
            self._local = replace(self._local, selected="")
        self._properties = properties
        self._show()
        if properties.state not in ON_THE_WAY and self._on_rest is not None:
            self._on_rest()
            self._on_rest = None

    def _show(self) -> None:
        self._local = replace(self._local, digits=len(self._pin))
        self._windows.show(view_of(self._properties, self._local))

    def _key(self, key: Key) -> None:
        action = act.action_of(self._properties, self._local, key)
        if action is not None:
            self._perform(action)
            self._show()

    def _perform(self, action: act.Action) -> None:
        match action:
            case act.Pick(project):
                self._agent.pick(project)
            case act.Select(row):
                self._local = replace(self._local, selected=row)
            case act.TypeDigit(digit):
                self._pin.add(digit)
            case act.EraseDigit():
                self._pin.erase()
            case act.SubmitPin():
                self._agent.submit_pin(self._pin.into_pipe())
            case act.Cancel():
                self._pin.wipe()
                self._agent.call("Cancel")
            case act.Acknowledge():
                self._agent.call("Acknowledge")
            case act.Confirm():
                self._agent.call("Confirm")
            case act.SwitchLanguage():
                self._local = replace(self._local, language=self._local.language.other)
