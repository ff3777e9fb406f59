"""WireGuard's generic netlink interface: key, peer, last handshake, and all keys gone (linux/wireguard.h)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

from sdbox.agent.keys import KEY_SIZE
from sdbox.agent.netlink import DUMP, GENERIC, Netlink, attribute, attributes, nested, text
from sdbox.protocol.tls import parse_endpoint
from sdbox.protocol.values import TunnelGrant

KIND: Final = "wireguard"
KEEPALIVE_SECONDS: Final = 1  # its first packet starts the handshake

_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2  # linux/genetlink.h
_GET, _SET, _VERSION = 0, 1, 1
_IFNAME, _PRIVATE_KEY, _FLAGS, _PEERS = 2, 3, 5, 8
_REPLACE_PEERS: Final = 1
_PUBLIC, _PRESHARED, _PEER_FLAGS, _ENDPOINT, _KEEPALIVE, _LAST_HANDSHAKE, _ALLOWED = 1, 2, 3, 4, 5, 6, 9
_REMOVE, _REPLACE_ALLOWED = 1, 2
_ALLOWED_FAMILY, _ALLOWED_ADDRESS, _ALLOWED_PREFIX = 1, 2, 3


class WireGuard:
    """The kernel's WireGuard links of the calling thread's namespace. Errors are OSError."""

    def __init__(self) -> None:
        self._netlink = Netlink(GENERIC)
        self._family = 0

    def close(self) -> None:
        self._netlink.close()

    def set_key(self, name: str, private: bytes | bytearray) -> None:
        self._set(name, attribute(_PRIVATE_KEY, bytes(private)))

    def set_peer(self, name: str, grant: TunnelGrant, endpoint: str) -> None:
        """Make the grant's gateway at `endpoint` a peer, anew: what the link knew of it is forgotten first."""
        gone = nested(0, attribute(_PUBLIC, grant.peer_public), attribute(_PEER_FLAGS, _u32(_REMOVE)))
        self._set(name, nested(_PEERS, gone))
        self._set(name, nested(_PEERS, peer(grant, endpoint)))

    def forget(self, name: str) -> None:
        """Overwrite every key that link `name` holds, with one message: its own, its peers', their sessions'."""
        self._set(name, attribute(_PRIVATE_KEY, bytes(KEY_SIZE)) + attribute(_FLAGS, _u32(_REPLACE_PEERS)))

    def last_handshake(self, name: str) -> int:
        """Return when the last handshake with any peer was, in seconds since 1970; 0 if there was none."""
        moments = [0]
        for answer in self._ask(_GET, attribute(_IFNAME, text(name)), flags=DUMP):
            for kind, peers in attributes(answer[4:]):
                if kind == _PEERS:
                    moments += [_handshake(inner) for _, inner in attributes(peers)]
        return max(moments)

    def _set(self, name: str, settings: bytes) -> None:
        self._ask(_SET, attribute(_IFNAME, text(name)) + settings)

    def _ask(self, command: int, body: bytes, *, flags: int = 0) -> list[bytes]:
        if not self._family:  # only known once the kernel has loaded WireGuard, with the first link
            self._family = self._find_family()
        return self._netlink.ask(self._family, _generic(command, _VERSION) + body, flags=flags)

    def _find_family(self) -> int:
        asked = _generic(_GET_FAMILY, 1) + attribute(_FAMILY_NAME, text(KIND))
        for answer in self._netlink.ask(_CONTROL, asked):
            for kind, value in attributes(answer[4:]):
                if kind == _FAMILY_ID:
                    return int(struct.unpack("=H", value)[0])
        raise OSError("the kernel does not name its WireGuard family")


def peer(grant: TunnelGrant, endpoint: str) -> bytes:
    """Return the gateway at `endpoint` as an element of WGDEVICE_A_PEERS."""
    return nested(
        0,
        attribute(_PUBLIC, grant.peer_public),
        attribute(_PRESHARED, grant.preshared),
        attribute(_PEER_FLAGS, _u32(_REPLACE_ALLOWED)),
        attribute(_ENDPOINT, socket_address(endpoint)),
        attribute(_KEEPALIVE, struct.pack("=H", KEEPALIVE_SECONDS)),
        nested(_ALLOWED, *map(_allowed, grant.allowed)),
    )


def socket_address(endpoint: str) -> bytes:
    """Return "address:port" as a struct sockaddr_in or sockaddr_in6."""
    host, port = parse_endpoint(endpoint)
    address = ipaddress.ip_address(host)
    if address.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", port, address.packed)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI16sI", port, 0, address.packed, 0)


def _allowed(network: str) -> bytes:
    parsed = ipaddress.ip_network(network)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    return nested(
        0,
        attribute(_ALLOWED_FAMILY, struct.pack("=H", family)),
        attribute(_ALLOWED_ADDRESS, parsed.network_address.packed),
        attribute(_ALLOWED_PREFIX, struct.pack("=B", parsed.prefixlen)),
    )


def _handshake(peer_attributes: bytes) -> int:
    for kind, value in attributes(peer_attributes):
        if kind == _LAST_HANDSHAKE:
            seconds, nanoseconds = struct.unpack("=qq", value)  # struct __kernel_timespec
            return int(seconds) or int(nanoseconds > 0)
    return 0


def _generic(command: int, version: int) -> bytes:
    """Return a struct genlmsghdr."""
    return struct.pack("=BBH", command, version, 0)


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
