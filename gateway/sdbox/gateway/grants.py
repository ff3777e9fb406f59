"""What a box needs to enter a bubble, from the session that was opened for it."""

from __future__ import annotations

from sdbox.gateway.sessions import Bubble, Session
from sdbox.protocol import messages as m


def grant_message(bubble: Bubble, session: Session, lease: int, nonce: bytes) -> m.GrantMessage:
    """Return the Grant. Only the desktop is reachable behind the peer: the box routes nothing else there (S5)."""
    config = bubble.config
    return m.GrantMessage(
        session=session.name,
        project=config.project,
        endpoints=config.wireguard.endpoints,
        peer_public=bubble.public,
        preshared=session.peer.preshared,
        address=f"{session.peer.address}/32",
        allowed=(f"{config.desktop.host}/32",),
        desktop_host=str(config.desktop.host),
        desktop_port=config.desktop.port,
        desktop_certificate_sha256=config.desktop.certificate_sha256,
        desktop_user=session.login.user,
        desktop_secret=session.login.secret,
        lease=lease,
        nonce=nonce,
    )
