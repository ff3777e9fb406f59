"""The WireGuard tunnel of a session: up, and gone again. The only file that knows pyroute2; its errors become Refusals.

The interface is created in the main namespace, so its UDP socket stays there, and moved into namespace `bubble`, where
it is the only link: a program in there reaches the bubble through the tunnel or nothing at all (S5).
"""

from __future__ import annotations

import asyncio
import socket
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pyroute2 import IPRoute, NetlinkError, WireGuard

from sdbox.agent.firewall import allow_endpoints, apply_rules, bubble_rules, closed_rules, no_endpoints
from sdbox.agent.keys import TunnelKey
from sdbox.agent.namespace import Namespace
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.tls import parse_endpoint
from sdbox.protocol.values import TunnelGrant

INTERFACE: Final = "sdbox0"
HANDSHAKE_SECONDS: Final = 4.0  # per endpoint; WireGuard itself tries again only after 5 s
POLL_SECONDS: Final = 0.01
KEEPALIVE_SECONDS: Final = 1  # its first packet starts the handshake

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
        self._opened = False  # touched in the `_main` thread only
        self._ruled = True  # touched in the bubble's thread only

    async def prepare(self) -> None:
        """Shut the namespace, and remove what an agent that died half-way may have left in the main one."""
        await self._bubble.run(self._shut_bubble)
        await self._outside(_delete_link)

    async def up(self, way: Way) -> None:
        """Bring the tunnel up and wait for the first handshake; Refusal(TUNNEL_FAILED), and nothing left, otherwise."""
        async with self._turn:
            if self._way is not None:
                raise Refusal(Reason.INTERNAL, "two tunnels at once")
            self._way = way
            try:
                await self._tidy()
                await self._up(way)
            except BaseException:
                await asyncio.shield(self._fall())
                raise

    async def down(self) -> None:
        """Remove the tunnel and overwrite its key; Refusal(INTERNAL) if the link is still there. Idempotent."""
        await asyncio.shield(self._in_turn(self._down))

    async def tidy(self) -> None:
        """Shut the packet filters behind a tunnel that is down: not urgent, without a link nothing passes them."""
        await asyncio.shield(self._in_turn(self._tidy))

    async def close(self) -> None:
        await self.down()
        await self.tidy()
        self._main.shutdown(wait=False)

    async def _up(self, way: Way) -> None:
        await self._outside(lambda: self._open(way.grant.endpoints))
        await self._outside(lambda: _create_link(way, self._bubble.fd))
        await self._bubble.run(lambda: self._configure(way))
        for endpoint in way.grant.endpoints:
            await self._bubble.run(lambda endpoint=endpoint: _set_peer(way, endpoint))  # type: ignore[misc]
            if await self._handshaken():
                self._complete = True
                return
        raise Refusal(Reason.TUNNEL_FAILED, f"no handshake in {HANDSHAKE_SECONDS:g} s with any endpoint")

    async def _handshaken(self) -> bool:
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        while time.monotonic() < deadline:
            if await self._bubble.run(_last_handshake):
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
        """Every step is tried, keys first; the first error is raised at the end.

        After an `up` that was cut short the main namespace comes first: a thread may still be at work there, and the
        step queues up behind it. What that work then moved into the bubble is found there.
        """
        way, self._way = self._way, None
        complete, self._complete = self._complete, False
        if way is not None:
            way.key.wipe()
        places = [self._bubble.run, self._outside] if complete else [self._outside, self._bubble.run]
        errors: list[Refusal] = []
        for place in places:
            errors += await _try(place(_delete_link))
        if errors:
            raise Refusal(Reason.INTERNAL, f"tunnel not fully removed: {errors[0].detail}")

    async def _tidy(self) -> None:
        await self._bubble.run(self._shut_bubble)
        await self._outside(self._shut)

    def _open(self, endpoints: tuple[str, ...]) -> None:
        apply_rules(allow_endpoints(endpoints))
        self._opened = True

    def _configure(self, way: Way) -> None:
        try:
            configure_link(INTERFACE, way.grant.address, way.grant.allowed)
        except (NetlinkError, OSError) as error:
            raise _refusal("configure", error) from error
        self._ruled = True
        apply_rules(bubble_rules(INTERFACE, way.host, way.port))

    def _shut_bubble(self) -> None:
        if self._ruled:
            apply_rules(closed_rules())
            self._ruled = False

    def _shut(self) -> None:
        if self._opened:
            apply_rules(no_endpoints())
            self._opened = False

    async def _outside(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._main, work)


async def _try(step: Awaitable[None]) -> list[Refusal]:
    try:
        await step
    except Refusal as refusal:
        return [refusal]
    return []


def _create_link(way: Way, namespace: int) -> None:
    """Create the interface with its key in this namespace and move it into `namespace`; blocking."""
    try:
        with IPRoute() as route:
            route.link("add", ifname=INTERFACE, kind="wireguard")
            with WireGuard() as wireguard:
                wireguard.set(INTERFACE, private_key=_text(way.key.private()))
            move_link(route, INTERFACE, namespace)
    except (NetlinkError, OSError) as error:
        raise _refusal("create", error) from error


def peer_settings(way: Way, endpoint: str) -> dict[str, object]:
    """Return the gateway's peer at `endpoint` as pyroute2 wants it."""
    host, port = parse_endpoint(endpoint)
    return {
        "endpoint_addr": host,
        "endpoint_port": port,
        "public_key": _text(way.grant.peer_public),
        "preshared_key": _text(way.grant.preshared),
        "persistent_keepalive": KEEPALIVE_SECONDS,
        "replace_allowed_ips": True,
        "allowed_ips": list(way.grant.allowed),
    }


def move_link(route: Any, name: str, namespace: int) -> None:  # noqa: ANN401 - pyroute2 has no types
    """Move link `name` of this namespace into the one `namespace` refers to."""
    (index,) = route.link_lookup(ifname=name)
    route.link("set", index=index, net_ns_fd=namespace)


def configure_link(name: str, address: str, networks: tuple[str, ...]) -> None:
    """Give link `name` of this thread's namespace its address, bring it up and route `networks` to it; blocking."""
    host, _, prefix = address.partition("/")
    with IPRoute() as route:
        (index,) = route.link_lookup(ifname=name)
        route.addr("add", index=index, address=host, prefixlen=int(prefix or "32"))
        route.link("set", index=index, state="up")
        for network in networks:
            route.route("add", dst=network, oif=index)


def _set_peer(way: Way, endpoint: str) -> None:
    """Make the gateway at `endpoint` the one peer of the link, which is up; blocking.

    A fresh peer with a keepalive begins its handshake at once, but only on a link that is up. One that has tried
    before, or had no endpoint when the link came up, would wait out WireGuard's REKEY_TIMEOUT of 5 s: so it is always
    made anew.
    """
    peer = peer_settings(way, endpoint)
    try:
        with WireGuard() as wireguard:
            wireguard.set(INTERFACE, peer={"public_key": peer["public_key"], "remove": True})
            wireguard.set(INTERFACE, peer=peer)
    except (NetlinkError, OSError) as error:
        raise _refusal("set the peer of", error) from error


def _last_handshake() -> int:
    """Return when the last handshake was, in seconds since 1970; 0 if there was none; blocking."""
    try:
        with WireGuard() as wireguard:
            for message in wireguard.info(INTERFACE):
                for peer in message.get_attr("WGDEVICE_A_PEERS") or ():
                    moment = peer.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME")
                    if moment and (moment["tv_sec"] or moment["tv_nsec"]):
                        return int(moment["tv_sec"]) or 1
    except (NetlinkError, OSError) as error:
        raise _refusal("read", error) from error
    return 0


def _delete_link() -> None:
    """Delete the interface if this thread's namespace has it, and look again: it must be gone."""
    try:
        delete_link(INTERFACE)
    except (NetlinkError, OSError) as error:
        raise _refusal("delete", error) from error


def delete_link(name: str) -> None:
    """Delete link `name` of this thread's namespace if it is there; Refusal(INTERNAL) if it then still is; blocking."""
    index = link_index(name)
    if index is not None:
        with IPRoute() as route:
            route.link("del", index=index)
        if link_index(name) is not None:
            raise Refusal(Reason.INTERNAL, "the tunnel's link is still there")


def link_index(name: str) -> int | None:
    """Return the index of link `name` in this thread's namespace, None if there is none."""
    return {link: index for index, link in socket.if_nameindex()}.get(name)


def _refusal(what: str, error: Exception) -> Refusal:
    code = error.code if isinstance(error, NetlinkError) else getattr(error, "errno", None)
    return Refusal(Reason.TUNNEL_FAILED, f"cannot {what} the tunnel's link: {type(error).__name__} {code}")


def _text(key: bytes | bytearray) -> str:
    return b64encode(key).decode("ascii")
