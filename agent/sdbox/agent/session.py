"""One card in one bubble: signature, grant, tunnel, desktop; and the way out of it again.

    CardIdentity -> offers -> pick -> tunnel key -> Open -> Grant -> Tunnel -> DesktopSession

A switch is the same way begun while a session runs: its client dies first, its tunnel goes while the card signs, and
the new tunnel waits for that. Two bubbles are never up at once (S5).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from sdbox.agent import journal
from sdbox.agent.card import CardSeat
from sdbox.agent.channel.channel import Channel
from sdbox.agent.desktop import SIGNED_OUT, DesktopSession
from sdbox.agent.events import CardRefused, DesktopEnded, DesktopShown, Event, Offered, ProjectRefused
from sdbox.agent.jobs import Post, whole
from sdbox.agent.keys import TunnelKey
from sdbox.agent.tunnel import Way
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import Container, DesktopAccess, Grant, Offer
from sdbox.smartcard.judgement import judge

HEARTBEAT_SECONDS: Final = 2.0
StartDesktop = Callable[[DesktopAccess], Awaitable[DesktopSession]]


async def ask_offers(channel: Channel | None, seat: CardSeat) -> Event:
    """Show the gateway every project certificate of the card; the offers, or why there are none."""
    try:
        containers = seat.project_containers()
        certificates = tuple(dict.fromkeys(container.certificate for container in containers))
        return Offered(complete(await _there(channel).prove_card(certificates, seat.card_signer()), containers))
    except Refusal as refusal:
        journal.explain(refusal)
        return CardRefused(refusal.reason)


def complete(offers: Sequence[Offer], containers: Sequence[Container]) -> tuple[Offer, ...]:
    """Return one offer per container, sorted by project: a number on the screen must not follow places on a card.

    What the gateway did not judge cannot be opened. Refusal(PROTOCOL) if an offer is for another project than its
    container's: the user would enter another bubble than the one picked.
    """
    projects = {container.fingerprint: container.project for container in containers}
    if any(projects.get(offer.certificate) != offer.project for offer in offers):
        raise Refusal(Reason.PROTOCOL, "an offer for another project than its certificate's")
    known = {offer.certificate for offer in offers}
    unread = [
        Offer(
            one.container.project or "", "", "", one.fault or Reason.CERTIFICATE_UNREADABLE, one.container.fingerprint
        )
        for one in judge(containers, datetime.now(UTC))
        if one.container.fingerprint not in known
    ]
    return tuple(sorted((*offers, *unread), key=lambda offer: (offer.project, offer.reason or "", offer.certificate)))


class TunnelEnd(Protocol):
    """What a session needs of the tunnel; see `tunnel.Tunnel`."""

    async def up(self, way: Way) -> None: ...

    async def silence(self) -> None: ...

    async def down(self) -> None: ...

    async def tidy(self) -> None: ...


Beside = Callable[[Channel, CardSeat], None]


def _nothing_beside(_channel: Channel, _seat: CardSeat) -> None:
    return


class Door:
    """The way into a bubble. Holds what is open, so that `kill_picture` and `shut` work at any moment of the way in."""

    def __init__(self, tunnel: TunnelEnd, start_desktop: StartDesktop, beside: Beside = _nothing_beside) -> None:
        """`beside` is told of each desktop that stands: it starts what can be done meanwhile, and returns at once."""
        self.session: str | None = None
        self._tunnel = tunnel
        self._start_desktop = start_desktop
        self._beside = beside
        self._desktop: DesktopSession | None = None

    async def visit(self, channel: Channel | None, seat: CardSeat, offer: Offer, post: Post) -> None:
        """Open what is offered, post DesktopShown, stay until the session ends by itself, post why; cancel to leave."""
        try:
            gateway = _there(channel)
            grant = await self._enter(gateway, seat, offer)
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(_beat(gateway, grant.session))
                post(await self._stay(post, lambda: self._beside(gateway, seat)))
                beating.cancel()
        except* Refusal as group:
            refusal = _first(group)
            journal.explain(refusal)
            post(ProjectRefused(refusal.reason))

    async def _enter(self, channel: Channel, seat: CardSeat, offer: Offer) -> Grant:
        signer, key = seat.signer(offer.certificate), TunnelKey()
        try:
            leaving = asyncio.ensure_future(whole(self.shut()))
            try:
                grant = await channel.open(offer.project, key.public, signer)
                self.session = grant.session
            finally:
                await leaving
            journal.phase("grant")
            await self._tunnel.up(Way(grant.tunnel, key, grant.desktop.host, grant.desktop.port))
            journal.phase("handshake")
        except BaseException:
            key.wipe()
            raise
        self._desktop = await self._start_desktop(grant.desktop)
        journal.phase("client-start")
        return grant

    async def _stay(self, post: Post, begin: Callable[[], None]) -> Event:
        desktop = self._desktop
        if desktop is None:
            raise Refusal(Reason.INTERNAL, "no desktop")
        await desktop.shown()
        journal.phase("desktop")
        post(DesktopShown())
        begin()
        status = await desktop.ended()
        if status not in SIGNED_OUT:
            raise desktop.failure(status)
        return DesktopEnded()

    def kill_picture(self) -> None:
        """End the client now, without waiting: first thing when a card is pulled."""
        if self._desktop is not None:
            self._desktop.kill()

    async def picture_gone(self) -> None:
        """Client dead; until it is seen dead, it is not forgotten."""
        if (desktop := self._desktop) is not None:
            await desktop.gone()
            if self._desktop is desktop:
                self._desktop = None

    async def shut(self) -> None:
        """Client dead, tunnel gone, key overwritten. The session's name is kept for `close_at_centre`."""
        try:
            await self.picture_gone()
        finally:
            await self._tunnel.down()

    async def silence(self) -> None:
        """Keys overwritten, whether or not the client is dead: it is being killed by then."""
        await self._tunnel.silence()

    async def tidy(self) -> None:
        """What is left to do behind a shut door."""
        await self._tunnel.tidy()

    async def close_at_centre(self, channel: Channel | None, cause: str) -> None:
        """Tell the gateway; without a channel it finds out by the missing heartbeats."""
        session, self.session = self.session, None
        if session is not None and channel is not None:
            with contextlib.suppress(Refusal):  # the channel is over, and with it the session
                await channel.close_session(session, cause)


def _there(channel: Channel | None) -> Channel:
    """The channel may go between a decision and its work; LinkLost is then already on its way."""
    if channel is None:
        raise Refusal(Reason.GATEWAY_UNREACHABLE, "no channel")
    return channel


async def _beat(channel: Channel, session: str) -> None:
    """Keep the lease; Refusal as soon as the gateway does not answer: our right to the bubble has ended."""
    while True:
        await channel.heartbeat(session)
        await asyncio.sleep(HEARTBEAT_SECONDS)


def _first(group: BaseExceptionGroup[Refusal]) -> Refusal:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Refusal) else Refusal(Reason.INTERNAL, type(error).__name__)
