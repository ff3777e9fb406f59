"""The WireGuard tunnel of a session: up, and gone again.

The interface is created from the main namespace, so its UDP socket stays there, into namespace `bubble`, where it is
the only link: a program in there reaches the bubble through the tunnel or nothing at all (S5).

What a removal needs is open before a session begins: sockets, threads, the packet filter's library. On the way out one
message overwrites the keys and one deletes the link (S6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from sdbox.agent.firewall import allow_endpoints, apply_rules, bubble_rules, closed_rules, no_endpoints
from sdbox.agent.keys import TunnelKey
from sdbox.agent.namespace import Namespace
from sdbox.agent.netlink import ROUTE, Netlink, configure_link, create_link, delete_link, link_index
from sdbox.agent.wireguard import KIND, WireGuard
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import TunnelGrant

INTERFACE: Final = "sdbox0"
HANDSHAKE_SECONDS: Final = 4.0  # per endpoint; WireGuard itself tries again only after 5 s
POLL_SECONDS: Final = 0.01

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Way:
    """What one session's tunnel needs: the gateway's grant, our key, and the one address inside that may be reached."""

    grant: TunnelGrant
    key: TunnelKey
    host: str
    port: int


class Tunnel:
    """The box's one tunnel. `up` and `down` exclude each other; nothing is up before `up` returns."""

    def __init__(self, namespace: Namespace) -> None:
        self._bubble = namespace
        self._main = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")
        self._turn = asyncio.Lock()
        self._way: Way | None = None
        self._complete = False
        self._outer: Netlink | None = None  # touched in the `_main` thread only, as the next
        self._opened = False
        self._inner: _Inner | None = None  # touched in the bubble's thread only

    async def prepare(self) -> None:
        """Shut the namespace and open what a session and its end need; else `up` does it. Idempotent."""
        await self._in_turn(self._prepare)

    async def up(self, way: Way) -> None:
        """Bring the tunnel up and wait for the first handshake; Refusal(TUNNEL_FAILED), and nothing left, otherwise."""
        async with self._turn:
            if self._way is not None:
                raise Refusal(Reason.INTERNAL, "two tunnels at once")
            self._way = way
            try:
                await self._prepare()
                await self._tidy()
                await self._up(way)
            except BaseException:
                await asyncio.shield(self._fall())
                raise

    async def silence(self) -> None:
        """Overwrite the keys, ours and the kernel's: what is still up carries nothing any more. `down` must follow.

        Beside `down` because the kernel takes its time to delete a link, and the keys should not wait for that (S6).
        """
        way = self._way
        if way is not None:
            way.key.wipe()
            await asyncio.shield(self._bubble.run(lambda: self._inside().forget()))

    async def down(self) -> None:
        """Overwrite the keys and remove the tunnel; Refusal(INTERNAL) if the link is still there. Idempotent."""
        await asyncio.shield(self._in_turn(self._down))

    async def tidy(self) -> None:
        """Shut the packet filters behind a tunnel that is down: not urgent, without a link nothing passes them."""
        await asyncio.shield(self._in_turn(self._tidy))

    async def close(self) -> None:
        await self.down()
        await self.tidy()
        self._main.shutdown(wait=False)

    async def _prepare(self) -> None:
        await self._bubble.run(self._inside)
        await self._outside(self._route)

    async def _up(self, way: Way) -> None:
        await self._outside(lambda: self._create(way))
        await self._bubble.run(lambda: self._inside().configure(way))
        for endpoint in way.grant.endpoints:
            await self._bubble.run(lambda endpoint=endpoint: self._inside().set_peer(way, endpoint))  # type: ignore[misc]
            if await self._handshaken():
                self._complete = True
                return
        raise Refusal(Reason.TUNNEL_FAILED, f"no handshake in {HANDSHAKE_SECONDS:g} s with any endpoint")

    async def _handshaken(self) -> bool:
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        while time.monotonic() < deadline:
            if await self._bubble.run(lambda: self._inside().has_handshake()):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _in_turn(self, action: Callable[[], Awaitable[None]]) -> None:
        async with self._turn:
            await action()

    async def _fall(self) -> None:
        try:
            await self._down()
        finally:
            await self._tidy()

    async def _down(self) -> None:
        """After an `up` that was cut short the main thread may still be creating the link: wait for it first.

        A way whose link is still there is kept: the next `down` tries again, and no `up` passes before.
        """
        way = self._way
        if way is None:
            return
        way.key.wipe()
        if not self._complete:
            await self._outside(lambda: None)
        await self._bubble.run(lambda: self._inside().remove())
        self._way, self._complete = None, False

    async def _tidy(self) -> None:
        if self._inner is not None:
            await self._bubble.run(self._inner.shut)
        await self._outside(self._shut)

    def _inside(self) -> _Inner:
        if self._inner is None:
            self._inner = _Inner()
        return self._inner

    def _route(self) -> Netlink:
        if self._outer is None:
            self._outer = Netlink(ROUTE)
        return self._outer

    def _create(self, way: Way) -> None:
        apply_rules(allow_endpoints(way.grant.endpoints))
        self._opened = True
        try:
            create_link(self._route(), INTERFACE, KIND, self._bubble.fd)
        except OSError as error:
            raise _refusal("create", error) from error

    def _shut(self) -> None:
        if self._opened:
            apply_rules(no_endpoints())
            self._opened = False

    async def _outside(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._main, work)


class _Inner:
    """The tunnel's end inside the namespace: made, used and kept by the one thread that lives there; blocking."""

    def __init__(self) -> None:
        apply_rules(closed_rules())
        self._ruled = False
        self._route = Netlink(ROUTE)
        self._wireguard = WireGuard()

    def configure(self, way: Way) -> None:
        """Give the link its key, its address and the rules for the one connection, and bring it up."""
        self._ruled = True
        apply_rules(bubble_rules(INTERFACE, way.host, way.port))
        try:
            self._wireguard.set_key(INTERFACE, way.key.private())
            configure_link(self._route, INTERFACE, way.grant.address, way.grant.allowed)
        except OSError as error:
            raise _refusal("configure", error) from error

    def set_peer(self, way: Way, endpoint: str) -> None:
        """Make the gateway at `endpoint` the one peer of the link, which is up.

        A fresh peer with a keepalive begins its handshake at once, but only on a link that is up. One that has tried
        before, or had no endpoint when the link came up, would wait out WireGuard's REKEY_TIMEOUT of 5 s: so it is
        always made anew.
        """
        try:
            self._wireguard.set_peer(INTERFACE, way.grant, endpoint)
        except OSError as error:
            raise _refusal("set the peer of", error) from error

    def has_handshake(self) -> bool:
        try:
            return self._wireguard.last_handshake(INTERFACE) > 0
        except OSError as error:
            raise _refusal("read", error) from error

    def forget(self) -> None:
        """Overwrite the keys in the kernel, if there is a link; if that fails, so will its removal, which tells."""
        with suppress(OSError):
            self._wireguard.forget(INTERFACE)

    def remove(self) -> None:
        """Overwrite the kernel's keys, delete the link, and look again; Refusal(INTERNAL) if it is still there."""
        if link_index(INTERFACE) is None:
            return
        self.forget()
        try:
            delete_link(self._route, INTERFACE)
        except OSError as error:
            raise Refusal(Reason.INTERNAL, f"the tunnel's link is not deleted: {error.errno}") from error
        if link_index(INTERFACE) is not None:
            raise Refusal(Reason.INTERNAL, "the tunnel's link is still there")

    def shut(self) -> None:
        """Let nothing through the packet filter any more."""
        if self._ruled:
            apply_rules(closed_rules())
            self._ruled = False


def _refusal(what: str, error: OSError) -> Refusal:
    return Refusal(Reason.TUNNEL_FAILED, f"cannot {what} the tunnel's link: {error.errno}")
