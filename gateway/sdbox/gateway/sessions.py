"""Sessions: one card in one bubble. Opening one installs its peer and its login; ending one removes both."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from sdbox.gateway.config import BubbleConfig
from sdbox.gateway.desktop import Login, Logins
from sdbox.gateway.wireguard import Peer, Tunnel, UserspaceTunnel, WireGuardError
from sdbox.protocol.reasons import Reason, Refusal


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is open at the gateway. `serial` is its certificate's, for revocation."""

    name: str
    project: str
    serial: str
    peer: Peer
    login: Login = field(repr=False)


class Bubble:
    """The gateway's side of one bubble: its tunnel, its addresses, its logins."""

    def __init__(self, config: BubbleConfig, tunnel: Tunnel, public: bytes) -> None:
        """Use `open_bubble`."""
        self.config = config
        self.public = public
        self._tunnel = tunnel
        self._logins = Logins(config.desktop.sam_file)
        self._sessions: dict[bytes, Session] = {}
        self._leaving: list[Session] = []
        self._last = int(config.gateway_address)

    async def enter(self, public: bytes, serial: str) -> Session:
        """Install the peer, then return. Refusal TUNNEL_FAILED or DESKTOP_FAILED, with nothing left behind.

        PROJECT_CLOSING while something of an ended session is left.
        """
        if self._leaving:
            raise Refusal(Reason.PROJECT_CLOSING, "an ended session's peer or login is still there")
        if public in self._sessions or public == self.public:
            raise Refusal(Reason.TUNNEL_FAILED, "tunnel key in use")  # it would take over the other session's peer
        peer = Peer(public, secrets.token_bytes(32), self._free_address())
        try:
            login = self._logins.add()
        except OSError as error:
            raise Refusal(Reason.DESKTOP_FAILED, f"login file: {type(error).__name__}") from error
        session = Session(str(uuid.uuid4()), self.config.project, serial, peer, login)
        self._sessions[public] = session
        try:
            await self._tunnel.add(peer)
        except WireGuardError as error:
            await self.leave(session)
            raise Refusal(Reason.TUNNEL_FAILED, str(error)) from error
        except asyncio.CancelledError:
            await self.leave(session)
            raise
        return session

    async def leave(self, session: Session) -> str:
        """End a session. Returns what could not be undone, in words for the record; empty if all is gone.

        What is left keeps its key and its address, and the bubble shut, until `finish_leaving` has got rid of it.
        """
        trouble = await self._end(session)
        if trouble:
            self._leaving.append(session)
        return trouble

    async def finish_leaving(self) -> tuple[Session, ...]:
        """Try again what `leave` could not undo; returns the sessions of which nothing is left now."""
        ended = tuple([session for session in tuple(self._leaving) if not await self._end(session)])
        for session in ended:
            self._leaving.remove(session)
        return ended

    def holds(self, session: Session) -> bool:
        """Whether anything of the session is left here."""
        return self._sessions.get(session.peer.public) is session

    async def _end(self, session: Session) -> str:
        troubles = []
        try:
            await self._tunnel.remove(session.peer.public)
        except WireGuardError as error:
            troubles.append(f"peer: {error}")
        try:
            self._logins.remove(session.login.user)
        except OSError as error:
            troubles.append(f"login: {type(error).__name__}")
        if not troubles:
            self._sessions.pop(session.peer.public, None)
        return "; ".join(troubles)

    def _free_address(self) -> IPv4Address:
        """Go round the network, so that an address rests as long as possible before somebody else has it."""
        network = self.config.network
        taken = {session.peer.address for session in self._sessions.values()} | {self.config.gateway_address}
        first, count = int(network.network_address) + 1, max(network.num_addresses - 2, 1)
        for step in range(1, count + 1):
            address = ipaddress.IPv4Address(first + (self._last - first + step) % count)
            if address not in taken:
                self._last = int(address)
                return address
        raise Refusal(Reason.TUNNEL_FAILED, "no free address in the bubble")


async def open_bubble(config: BubbleConfig) -> Bubble:
    """Take over a bubble's tunnel: fresh key, no peers. WireGuardError or OSError if its services are not there."""
    tunnel = UserspaceTunnel(config.wireguard.socket)
    return Bubble(config, tunnel, await tunnel.reset(config.wireguard.listen_port))


async def open_bubbles(configs: tuple[BubbleConfig, ...]) -> Mapping[str, Bubble]:
    return {config.project: await open_bubble(config) for config in configs}
