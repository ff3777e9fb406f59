"""nftables: default drop inside the namespace but for the one RDP connection, and the grant's endpoint outside (S5).

The image's static ruleset drops everything in the main namespace; it carries the set TUNNEL_SET (type ipv4_addr .
inet_service) for which it lets UDP out. The agent adds the grant's endpoints and takes them away again.

Through libnftables(3), which the program nft is a shell around: a process for each change took a second of every switch
under emulation.
"""

from __future__ import annotations

import ctypes
import ipaddress
import threading
from collections.abc import Sequence
from typing import Final

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.tls import parse_endpoint

LIBRARY: Final = "libnftables.so.1"
TUNNEL_SET: Final = ("inet", "sdbox", "tunnel_endpoints")

_BUBBLE: Final = """\
table inet bubble
delete table inet bubble
table inet bubble {{
  chain input {{
    type filter hook input priority 0; policy drop;
{inward}  }}
  chain output {{
    type filter hook output priority 0; policy drop;
{outward}  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
  }}
}}
"""


def closed_rules() -> str:
    """Return the ruleset of the namespace without a session: nothing in, nothing out."""
    return _BUBBLE.format(inward="", outward="")


def bubble_rules(interface: str, host: str, port: int) -> str:
    """Return the ruleset of the namespace with a session: TCP to the desktop through the tunnel, and its answers."""
    address = ipaddress.ip_address(host)
    family = "ip" if address.version == 4 else "ip6"
    far = f"{family} %s {address} tcp %s {port}"
    return _BUBBLE.format(
        inward=f'    iifname "{interface}" ct state related accept\n'  # an ICMP "packet too big" for that connection
        f'    iifname "{interface}" {far % ("saddr", "sport")} ct state established accept\n',
        outward=f'    oifname "{interface}" {far % ("daddr", "dport")} accept\n',
    )


def allow_endpoints(endpoints: Sequence[str]) -> str:
    """Return the command that lets WireGuard out to `endpoints`, by the main namespace's set."""
    pairs = (parse_endpoint(endpoint) for endpoint in endpoints)
    elements = ", ".join(f"{address} . {port}" for address, port in pairs)
    return f"add element {' '.join(TUNNEL_SET)} {{ {elements} }}\n"


def no_endpoints() -> str:
    """Return the command that takes all endpoints away again."""
    return f"flush set {' '.join(TUNNEL_SET)}\n"


def apply_rules(text: str) -> None:
    """Load `text` into the calling thread's network namespace, all of it or nothing; blocking.

    Refusal(TUNNEL_FAILED) if the kernel or the parser refuses.
    """
    nft = getattr(_threads, "nft", None)
    if nft is None:
        nft = _threads.nft = _Nft()
    with _one_at_a_time:
        nft.run(text)


class _Nft:
    """A context of libnftables. Its netlink socket belongs to the namespace of the thread that makes it."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise Refusal(Reason.TUNNEL_FAILED, f"{LIBRARY} is missing") from error
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> None:
        if self._library.nft_run_cmd_from_buffer(self._context, text.encode("ascii")) != 0:
            said = self._library.nft_ctx_get_error_buffer(self._context) or b""
            first = said.decode(errors="replace").splitlines()[:1]
            raise Refusal(Reason.TUNNEL_FAILED, f"nft refused the rules: {first}")

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.nft_ctx_free(self._context)


_threads = threading.local()
_one_at_a_time = threading.Lock()  # the library's parser is not made for two threads
