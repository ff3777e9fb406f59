"""What the gateway hands out, checked and frozen where it enters the box."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence

from sdbox.protocol import messages as m
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.tls import parse_endpoint
from sdbox.protocol.values import DesktopAccess, Grant, Offer, TunnelGrant

_KEY_SIZE = 32
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SESSION = re.compile(r"[0-9a-f-]{1,64}")
_USER = re.compile(r"[0-9A-Za-z-]{1,64}")
_SECRET = re.compile(r"[0-9A-Za-z_-]{22,128}")


def grant_of(message: m.GrantMessage, project: str) -> Grant:
    """Return the grant for the `project` that was asked for. Refusal PROTOCOL if any field is not what it must be."""
    try:
        _check(message, project)
    except ValueError as error:
        raise Refusal(Reason.PROTOCOL, "grant with an unusable field") from error
    tunnel = TunnelGrant(
        endpoints=message.endpoints,
        peer_public=message.peer_public,
        preshared=message.preshared,
        address=message.address,
        allowed=message.allowed,
    )
    desktop = DesktopAccess(
        host=message.desktop_host,
        port=message.desktop_port,
        certificate_sha256=message.desktop_certificate_sha256,
        user=message.desktop_user,
        secret=message.desktop_secret,
    )
    return Grant(message.session, message.project, tunnel, desktop, message.lease)


def offers_of(items: Sequence[m.OfferItem], certificates: Sequence[bytes]) -> tuple[Offer, ...]:
    """Return the gateway's verdicts on `certificates`. Refusal PROTOCOL if they are not about those, each once.

    At most one container opens a project: with two the box would have to choose, and that is the gateway's to do.
    """
    shown = {hashlib.sha256(certificate).digest() for certificate in certificates}
    judged = [item.certificate for item in items]
    opened = [item.project for item in items if item.reason is None]
    if not shown.issuperset(judged) or len(set(judged)) != len(judged) or len(set(opened)) != len(opened):
        raise Refusal(Reason.PROTOCOL, "offers that do not fit the card")
    return tuple(
        Offer(item.project, item.title_fr, item.title_en, item.reason, item.certificate, item.fresh) for item in items
    )


def _check(message: m.GrantMessage, project: str) -> None:
    """Raise ValueError for anything that later steps would hand to a kernel or a command line unchecked."""
    if message.project != project or not message.endpoints or not message.allowed:
        raise ValueError("project, endpoints or networks")
    if (len(message.peer_public), len(message.preshared)) != (_KEY_SIZE, _KEY_SIZE):
        raise ValueError("key size")
    for endpoint in message.endpoints:
        ipaddress.ip_address(parse_endpoint(endpoint)[0])
    ipaddress.ip_interface(message.address)
    for network in message.allowed:
        ipaddress.ip_network(network)
    ipaddress.ip_address(message.desktop_host)
    if not 0 < message.desktop_port < 1 << 16 or not 0 < message.lease <= 3600:
        raise ValueError("port or lease")
    texts = (
        (_FINGERPRINT, message.desktop_certificate_sha256),
        (_SESSION, message.session),
        (_USER, message.desktop_user),
        (_SECRET, message.desktop_secret),
    )
    if not all(pattern.fullmatch(text) for pattern, text in texts):
        raise ValueError("desktop or session text")
