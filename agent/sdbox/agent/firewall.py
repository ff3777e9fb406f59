"""nftables: default drop inside the namespace but for the one RDP connection, and the grant's endpoint outside (S5).

The image's static ruleset drops everything in the main namespace; it carries the set TUNNEL_SET (type ipv4_addr .
inet_service) for which it lets UDP out. The agent adds the grant's endpoints and takes them away again.
"""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Sequence
from typing import Final

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.tls import parse_endpoint

TUNNEL_SET: Final = ("inet", "sdbox", "tunnel_endpoints")
NFT_SECONDS: Final = 10.0

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

    nft is started by this thread, so it inherits the namespace. Refusal(TUNNEL_FAILED) if it refuses.
    """
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, text=True, capture_output=True, timeout=NFT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refusal(Reason.TUNNEL_FAILED, f"nft: {type(error).__name__}") from error
    if done.returncode != 0:
        raise Refusal(Reason.TUNNEL_FAILED, f"nft refused the rules: {done.stderr.strip().splitlines()[:1]}")
