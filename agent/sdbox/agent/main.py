"""`sdbox-agent`: puts the parts together and runs until the service manager ends it."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

from sdbox.agent import journal
from sdbox.agent.attest import CentreLink, TpmProver
from sdbox.agent.card import CARD_USER, TOKEN_READER, CardSeat
from sdbox.agent.cardclock import CardClock
from sdbox.agent.config import SITE, ConfigError, Site, image_version, load_site, read_box_id
from sdbox.agent.control import Agent
from sdbox.agent.dbus import AgentInterface, Identity, Inputs, leave, serve, watch
from sdbox.agent.desktop import DesktopSession, Place
from sdbox.agent.events import Attested, Event, LinkRefused, LinkUp, Started, SwitchKey
from sdbox.agent.namespace import Namespace
from sdbox.agent.parts import Parts, Waiting
from sdbox.agent.renewal import Renewals
from sdbox.agent.screen.notify import notify_ready
from sdbox.agent.session import Door
from sdbox.agent.token import TokenMonitor
from sdbox.agent.tunnel import Tunnel
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId, DesktopAccess
from sdbox.smartcard.card_process import Runner
from sdbox.smartcard.monitor import CardMonitor
from sdbox.smartcard.spare import Spare
from sdbox.smartcard.values import CardInserted

DISPLAY_FILE: Final = Path("/run/sdbox-kiosk/display")  # written by the screen once Xwayland lets the RDP user in


class Box:
    """The agent's parts, made in order and taken down in reverse."""

    def __init__(self, site: Site, box_id: BoxId, version: str) -> None:
        self._site = site
        self._box_id = box_id
        self._identity = Identity(str(box_id), version)
        self._spare = Spare(Runner(CARD_USER))
        self._watchers = ExitStack()  # what posts events from outside, as far as it was started

    async def run(self) -> None:
        """Run until cancelled. Refusal if the box lacks something it cannot do without."""
        async with AsyncExitStack() as stack:
            namespace = stack.enter_context(Namespace())
            tunnel = Tunnel(namespace)
            stack.push_async_callback(tunnel.close)
            stack.push_async_callback(self._spare.close)
            agent = Agent(lambda agent: self._wire(agent, tunnel, namespace))
            stack.push_async_callback(agent.stop)
            bus = await serve(agent.parts.screen)
            stack.callback(leave, bus)
            stack.callback(asyncio.ensure_future(watch(bus, agent.broken)).cancel)
            stack.callback(self._watchers.close)
            if self._site.card.token is not None:
                self._watchers.callback(TokenMonitor(agent.post).close)
            agent.post(Started())
            await _follow(agent)

    def _wire(self, agent: Agent, tunnel: Tunnel, namespace: Namespace) -> Parts:
        async def start_desktop(access: DesktopAccess) -> DesktopSession:
            return await DesktopSession.start(access, Place(namespace, read_display()))

        def seat(card: CardInserted) -> CardSeat:
            token = self._site.card.token if card.reader == TOKEN_READER else None
            return CardSeat(card, token=token, spare=self._spare)

        monitor = CardMonitor(agent.post_from_thread, agent.broken_from_thread)
        self._watchers.callback(monitor.stop)

        def post(event: Event) -> None:
            """The readers are looked at as soon as it can matter: loading PC/SC then fills the TPM's thinking time."""
            if isinstance(event, LinkUp | LinkRefused):
                monitor.start()
            if isinstance(event, Attested | LinkRefused):
                notify_ready()
            agent.post(event)

        clock = CardClock(self._site.card.idle_minutes, self._site.card.session_minutes)

        async def settle() -> None:
            await tunnel.prepare()
            await asyncio.to_thread(importlib.import_module, "sdbox.agent.switchkey")
            from sdbox.agent.switchkey import SwitchKeys  # noqa: PLC0415 - udev is not needed before a session is

            keys = SwitchKeys(self._site.keys.switch, lambda: agent.post(SwitchKey()), clock.touch)
            self._watchers.callback(keys.close)

        inputs = Inputs(agent.post, agent.submit_pin, lambda: journal.phase("screen-ready"))
        screen = AgentInterface(self._identity, inputs)
        link = CentreLink(self._site.gateway, self._box_id, TpmProver(self._box_id), post)
        door = Door(tunnel, start_desktop, Renewals().consider)
        return Parts(screen, link, door, seat, clock, Waiting(settle, self._spare.prepare))


async def _follow(agent: Agent) -> None:
    """Consume events. Once the agent has failed there is no channel any more, but it goes on saying so."""
    linking = asyncio.ensure_future(agent.parts.link.run())
    failed = asyncio.ensure_future(agent.failed.wait())
    consuming = asyncio.ensure_future(agent.run())
    try:
        await asyncio.wait({linking, failed, consuming}, return_when=asyncio.FIRST_COMPLETED)
        if not failed.done():
            raise next(task.exception() or RuntimeError("ended") for task in (consuming, linking) if task.done())
        await agent.settled()
        linking.cancel()
        await consuming
    finally:
        for task in (linking, failed, consuming):
            task.cancel()
        await asyncio.wait({linking, failed, consuming})


def read_display(path: Path = DISPLAY_FILE) -> str:
    """Return the X display the screen published; Refusal(DESKTOP_FAILED) if there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise Refusal(Reason.DESKTOP_FAILED, "the screen has no X display yet") from error


def main() -> None:
    """Run the box: attestation, card, tunnel, desktop. The service manager starts it, without arguments."""
    if len(sys.argv) == 1:
        run(SITE)
    else:
        from sdbox.agent.command_line import command  # noqa: PLC0415 - click takes its time, and a boot has no arguments

        command(run)


def run(site: Path) -> None:
    """Run the box with the settings at `site`. Exit 1 if it failed, 2 if its settings are wrong."""
    journal.phase("agent-start")
    try:
        box = Box(load_site(site), read_box_id(), image_version())
    except ConfigError as error:
        print(f"sdbox-agent: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        asyncio.run(_until_ended(box))
    except (Refusal, OSError) as error:
        journal.refused(error.reason if isinstance(error, Refusal) else Reason.INTERNAL)
        print(f"sdbox-agent: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        journal.refused(Reason.INTERNAL)  # whatever it was, the box says a code the operator can look up (S11)
        raise


async def _until_ended(box: Box) -> None:
    """Run the box; SIGTERM and SIGINT take it down in order."""
    running = asyncio.ensure_future(box.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return
