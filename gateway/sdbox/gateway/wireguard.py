"""WireGuard peers of one interface, over wireguard-go's control socket (the "cross-platform userspace" protocol)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

ANSWER_SECONDS: Final = 2.0


class WireGuardError(Exception):
    """The interface does not answer, or refused a change."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A box in a bubble: its session key, its pre-shared key, and the one address it may use."""

    public: bytes
    preshared: bytes = field(repr=False)
    address: IPv4Address


class Tunnel(Protocol):
    """The gateway's end of a bubble's tunnels."""

    async def reset(self, listen_port: int) -> bytes:
        """Take a fresh key, drop all peers, listen; return the public key."""

    async def add(self, peer: Peer) -> None:
        """Let a peer in; returns when packets from it are accepted."""

    async def remove(self, public: bytes) -> None:
        """Shut a peer out; returns when its packets are dropped. A peer that is not there is no error."""

    async def peers(self) -> frozenset[bytes]:
        """Return the public keys of all peers."""


class UserspaceTunnel:
    """`Tunnel` over a wireguard-go control socket; each call is one connection with a deadline."""

    def __init__(self, control: Path) -> None:
        self._control = control

    async def reset(self, listen_port: int) -> bytes:
        key = X25519PrivateKey.generate()
        await self._set(
            f"private_key={key.private_bytes_raw().hex()}", f"listen_port={listen_port}", "replace_peers=true"
        )
        return key.public_key().public_bytes_raw()

    async def add(self, peer: Peer) -> None:
        await self._set(
            f"public_key={peer.public.hex()}",
            f"preshared_key={peer.preshared.hex()}",
            "replace_allowed_ips=true",
            f"allowed_ip={peer.address}/32",
        )

    async def remove(self, public: bytes) -> None:
        await self._set(f"public_key={public.hex()}", "update_only=true", "remove=true")

    async def peers(self) -> frozenset[bytes]:
        answer = await self._ask("get=1\n\n")
        return frozenset(bytes.fromhex(line[11:]) for line in answer if line.startswith("public_key="))

    async def _set(self, *lines: str) -> None:
        await self._ask("\n".join(("set=1", *lines)) + "\n\n")

    async def _ask(self, request: str) -> list[str]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._exchange(request)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, UnicodeDecodeError) as error:
            raise WireGuardError(f"{self._control.name}: {type(error).__name__}") from error
        lines = answer.split("\n")
        if "errno=0" not in lines:
            raise WireGuardError(f"{self._control.name}: refused a change")
        return lines

    async def _exchange(self, request: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self._control)
        try:
            writer.write(request.encode("ascii"))
            await writer.drain()
            return (await reader.readuntil(b"\n\n")).decode("ascii")
        finally:
            writer.close()
