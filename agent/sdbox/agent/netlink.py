"""Netlink by hand: messages, attributes, answers, and the few requests about links that the tunnel makes.

Not a library: one that knows all of netlink was a third of the agent's imports, seconds under emulation, and opened a
socket for each change while a card was already out. A socket here is made once, in the thread whose network namespace
it is to work in, and kept. Sources: netlink(7), rtnetlink(7), linux/netlink.h, linux/if_link.h.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

ANSWER_SECONDS: Final = 5.0
REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
CREATE_NEW: Final = 0x600  # NLM_F_CREATE | NLM_F_EXCL
ROUTE: Final = socket.NETLINK_ROUTE
GENERIC: Final = 16

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_ERROR: Final = 2
_DONE: Final = 3

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_INFO_KIND = 3, 18, 28, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF = 1, 4
_IFF_UP: Final = 1
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, _UNICAST = 254, 4, 253, 1


class Netlink:
    """A netlink socket of the calling thread's namespace. Errors of the kernel are OSError with their errno."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.settimeout(ANSWER_SECONDS)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, kind: int, body: bytes, *, flags: int = 0) -> list[bytes]:
        """Send one request and return the payloads of its answers. OSError if the kernel refuses or does not answer."""
        self._sequence += 1
        asked = flags | REQUEST | (0 if flags == DUMP else ACK)  # the bits mean other things per request
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, asked, self._sequence, 0) + body)
        answers: list[bytes] = []
        while True:
            for answer, payload in self._received():
                if answer == _ERROR:
                    (code,) = struct.unpack_from("=i", payload)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return answers
                if answer == _DONE:
                    return answers
                answers.append(payload)

    def _received(self) -> Iterator[tuple[int, bytes]]:
        """Yield type and payload of the messages of one datagram that answer the current request."""
        data = self._socket.recv(1 << 16)
        at = 0
        while at + _HEADER.size <= len(data):
            size, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
            if size < _HEADER.size:
                return
            if sequence == self._sequence:  # else the late answer of a request that was given up
                yield kind, data[at + _HEADER.size : at + size]
            at += size + -size % 4


def attribute(kind: int, data: bytes) -> bytes:
    """Return one attribute, padded."""
    size = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(size, kind) + data + bytes(-size % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    """Return an attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(inner))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and value of each attribute in `data`."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + size]
        at += size + -size % 4


def text(value: str) -> bytes:
    """Return a string as netlink wants it."""
    return value.encode() + b"\0"


def link_index(name: str) -> int | None:
    """Return the index of link `name` in this thread's namespace, None if there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def create_link(route: Netlink, name: str, kind: str, namespace: int) -> None:
    """Make link `name` of `kind` straight into the namespace behind descriptor `namespace`.

    Its sockets stay in the namespace of `route`: the kernel's `creating_net` of a WireGuard link.
    """
    info = nested(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, text(kind)))
    place = attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
    route.ask(_NEWLINK, _link() + attribute(_IFLA_IFNAME, text(name)) + info + place, flags=CREATE_NEW)


def configure_link(route: Netlink, name: str, address: str, networks: tuple[str, ...]) -> None:
    """Give link `name` of this thread's namespace its address, bring it up and route `networks` to it."""
    index = socket.if_nametoindex(name)
    own = ipaddress.ip_interface(address)
    family, packed = _family(own.version), own.ip.packed
    body = struct.pack("=BBBBI", family, own.network.prefixlen, 0, 0, index)
    route.ask(_NEWADDR, body + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed), flags=CREATE_NEW)
    route.ask(_NEWLINK, _link(index, _IFF_UP, _IFF_UP))
    for network in map(ipaddress.ip_network, networks):
        kinds = (_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, _UNICAST)
        body = struct.pack("=8BI", _family(network.version), network.prefixlen, 0, 0, *kinds, 0)
        target = attribute(_RTA_DST, network.network_address.packed) + attribute(_RTA_OIF, struct.pack("=I", index))
        route.ask(_NEWROUTE, body + target, flags=CREATE_NEW)


def delete_link(route: Netlink, name: str) -> None:
    """Delete link `name` of this thread's namespace if it is there: one message."""
    if link_index(name) is not None:
        route.ask(_DELLINK, _link() + attribute(_IFLA_IFNAME, text(name)))


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """Return a struct ifinfomsg."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6
