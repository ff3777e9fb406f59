"""The site's settings as files of the image: site.toml for the agent, the packet filter's rules, what it trusts."""

from __future__ import annotations

import ipaddress
import json
import re

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sdbox.image.request import BadRequestError, SiteSettings
from sdbox.smartcard.virtual.cvc import ROOT_FOLDER, holder_reference

ENDPOINT = re.compile(r"([0-9.]+):([0-9]{1,5})")
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?")
HOLDER = re.compile(r"[A-Z]{2}[A-Za-z0-9]{0,9}[A-Z0-9]{5}")  # BSI TR-03110-3, D.2.1.4.1
KEY_NAME = re.compile(r"KEY_[A-Z0-9_]+")
CA_ON_BOX = "/usr/lib/sdbox/centre-ca.pem"
HIGHEST_PORT = 65535

# `tunnel_endpoints` is the agent's: it adds the endpoints of a grant and takes them away with the session.
FIREWALL = """\
table inet sdbox
delete table inet sdbox
table inet sdbox {{
  set gateway {{
    type ipv4_addr . inet_service
    elements = {{ {gateway} }}
  }}
  set tunnel_endpoints {{
    type ipv4_addr . inet_service
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state {{ established, related }} accept
    udp sport 67 udp dport 68 accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    oif lo accept
    udp sport 68 udp dport 67 accept
    ip daddr . tcp dport @gateway accept
    ip daddr . udp dport @tunnel_endpoints accept
  }}
}}
"""


def parse_gateway(endpoint: str) -> tuple[str, int]:
    """Return address and port of "a.b.c.d:port"; BadRequestError otherwise. A name would need DNS."""
    found = ENDPOINT.fullmatch(endpoint)
    try:
        address, port = (str(ipaddress.IPv4Address(found[1])), int(found[2])) if found else ("", 0)
    except ValueError:
        port = 0
    if not 0 < port <= HIGHEST_PORT:
        raise BadRequestError(
            f"gateway endpoint {endpoint!r}: expected an IPv4 address and a port, as in 203.0.113.10:443"
        )
    return address, port


def site_toml(site: SiteSettings) -> str:
    """Return site.toml (reader: `sdbox.agent.config`). BadRequestError names what is wrong."""
    if not HOST_NAME.fullmatch(site.gateway_name):
        raise BadRequestError(f"gateway name {site.gateway_name!r} is not a host name")
    if not KEY_NAME.fullmatch(site.switch_key):
        raise BadRequestError(f"switch key {site.switch_key!r} is not an evdev name such as KEY_PAUSE")
    endpoints = [f"{address}:{port}" for address, port in map(parse_gateway, site.endpoints)]
    if not endpoints:
        raise BadRequestError("a site needs at least one gateway endpoint")
    lines = [
        "[gateway]",
        f"endpoints = {json.dumps(endpoints)}",
        f'name = "{site.gateway_name}"',
        f'ca = "{CA_ON_BOX}"',
    ]
    lines += ["[keys]", f'switch = "{site.switch_key}"']
    card = {
        "token": site.card_token,
        "idle_minutes": site.idle_minutes,
        "session_minutes": site.session_minutes,
    }
    given = [f"{name} = {json.dumps(value)}" for name, value in card.items() if value is not None]
    lines += ["[card]", *given] if given else []
    return "\n".join(lines) + "\n"


def firewall_rules(site: SiteSettings) -> str:
    """Return the ruleset that is loaded before the network comes up."""
    elements = ", ".join(f"{address} . {port}" for address, port in map(parse_gateway, site.endpoints))
    return FIREWALL.format(gateway=elements)


def centre_ca(site: SiteSettings) -> bytes:
    """Return the centre's CA certificate as PEM, and nothing else of the file; BadRequestError if it has none."""
    try:
        certificate = x509.load_pem_x509_certificate(site.centre_ca.read_bytes())
    except (OSError, ValueError) as error:
        raise BadRequestError(f"centre CA {site.centre_ca}: no readable PEM certificate") from error
    return certificate.public_bytes(serialization.Encoding.PEM)


def card_roots(site: SiteSettings) -> dict[str, bytes]:
    """Return the CVC roots by their place in the tree, where OpenPACE looks; BadRequestError for other files."""
    found = {}
    for path in site.card_roots:
        try:
            certificate = path.read_bytes()
            name = holder_reference(certificate)
        except (OSError, ValueError) as error:
            raise BadRequestError(f"card root {path}: no readable card-verifiable certificate") from error
        if not HOLDER.fullmatch(name):
            raise BadRequestError(f"card root {path}: its holder reference is not one")
        found[f"{ROOT_FOLDER}/{name}"] = certificate
    return found
