"""The messages of the control channel. `docs/protocol.md` explains the conversation; the states are in `states.py`.

A frame is a 32-bit big-endian length and one MessagePack map. Until the box has proved which TPM it holds, the gateway
accepts only `Hello` and `Activated`, both of a fixed size and at most `SMALL_FRAME` bytes (S12).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

VERSION = 1
SMALL_FRAME = 256
LARGE_FRAME = 1 << 20
DER_LIMIT = 8192

Der = Annotated[bytes, msgspec.Meta(max_length=DER_LIMIT)]
"""A certificate or a request for one. Longer ones are no message."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="t"):
    """Base of all messages: frozen, tagged by class name, unknown fields refused."""


class Hello(Message, frozen=True, tag="Hello"):
    """Box -> gateway, first. Lets the gateway make a credential that only this box's TPM can open."""

    version: int
    box_id: bytes  # 16
    ak_name: bytes  # TPM Name of the AK: 2 + 32


class Challenge(Message, frozen=True, tag="Challenge"):
    """Gateway -> box: credential for the AK (TPM2_MakeCredential, TPM 2.0 part 1, 24) and the nonce of the quote."""

    nonce: bytes  # 32
    id_object: bytes  # TPM2B_ID_OBJECT
    encrypted_secret: bytes  # TPM2B_ENCRYPTED_SECRET
    ek_name: bytes  # TPM Name of the enrolled EK, 2 + 32: the box looks whether its TPM session is salted with it
    pcrs: tuple[int, ...]  # the selection the quote must have, SHA-256 bank


class Activated(Message, frozen=True, tag="Activated"):
    """Box -> gateway: the secret that TPM2_ActivateCredential gave. Constant-time compare, used once."""

    secret: bytes  # 32


class EvidenceMessage(Message, frozen=True, tag="Evidence"):
    """Box -> gateway: see `values.Evidence`. In the answer to Renew `event_log` may be empty: the same as before."""

    attest: bytes
    signature: bytes
    ak_public: bytes
    event_log: bytes
    pcrs: dict[int, bytes]


class Attested(Message, frozen=True, tag="Attested"):
    """Gateway -> box: the box is accepted until `seconds` from now. `nonce` is for the next card proof."""

    ear: str
    seconds: int
    nonce: bytes  # 32


class Refused(Message, frozen=True, tag="Refused"):
    """Gateway -> box: no, with a code of `reasons.py`. Fatal ends the connection; otherwise `nonce` is the next one."""

    code: str
    fatal: bool
    nonce: bytes = b""


class CardProof(Message, frozen=True, tag="CardProof"):
    """Box -> gateway: all project certificates of the card, an authenticator by one of them (`contexts`)."""

    certificates: tuple[bytes, ...]  # DER
    authenticator: bytes  # RFC 9261


class OfferItem(Message, frozen=True, tag="OfferItem"):
    """One project of `Offers`, see `values.Offer`."""

    project: str
    title_fr: str
    title_en: str
    reason: str | None
    certificate: bytes  # SHA-256 of the container's certificate, DER
    fresh: bool = False  # entering needs a finger (or PIN) and a CardProof of its own


class Offers(Message, frozen=True, tag="Offers"):
    """Gateway -> box: how it judges each container of the card."""

    offers: tuple[OfferItem, ...]
    nonce: bytes
    renews: bool = False  # whether this centre has certificates renewed


class Open(Message, frozen=True, tag="Open"):
    """Box -> gateway: let this card into this project's bubble. Ends the connection's other session first."""

    project: str
    tunnel_public: bytes  # X25519, 32
    authenticator: bytes  # RFC 9261, context binds nonce, project and tunnel key


class GrantMessage(Message, frozen=True, tag="Grant"):
    """Gateway -> box: see `values.Grant`. The peer is already installed."""

    session: str
    project: str
    endpoints: tuple[str, ...]
    peer_public: bytes
    preshared: bytes
    address: str
    allowed: tuple[str, ...]
    desktop_host: str
    desktop_port: int
    desktop_certificate_sha256: str
    desktop_user: str
    desktop_secret: str
    lease: int
    nonce: bytes

    def __repr__(self) -> str:
        """Leave the secrets out: a traceback or log line must not carry them (S8)."""
        return f"GrantMessage(session={self.session!r})"


class Heartbeat(Message, frozen=True, tag="Heartbeat"):
    """Both ways: the box says that the session is alive; the gateway echoes it."""

    session: str


class Close(Message, frozen=True, tag="Close"):
    """Box -> gateway: the session is over; `cause` is one of `card-removed`, `switch`, `user`, `limit`, `failed`."""

    session: str
    cause: str


class Closed(Message, frozen=True, tag="Closed"):
    """Gateway -> box: the peer of that session is gone. `nonce` is for the next card proof or open."""

    session: str
    nonce: bytes


class Renew(Message, frozen=True, tag="Renew"):
    """Gateway -> box: the result is about to lapse; send fresh Evidence for this nonce."""

    nonce: bytes


class Revoke(Message, frozen=True, tag="Revoke"):
    """Gateway -> box: end the session now."""

    session: str
    code: str


class RenewalRequest(Message, frozen=True, tag="RenewalRequest"):
    """Box -> gateway: renew this project's certificate. Signed by the container that is to be renewed (`contexts`)."""

    project: str
    request: Der  # PKCS#10, signed by the key that the new certificate is for
    authenticator: bytes  # RFC 9261


class RenewalPending(Message, frozen=True, tag="RenewalPending"):
    """Gateway -> box: the request is in order and with the issuing CA; `RenewalIssued` follows, whenever it may."""

    project: str
    nonce: bytes  # for the next card signature


class RenewalIssued(Message, frozen=True, tag="RenewalIssued"):
    """Gateway -> box, after RenewalPending: the certificate, or none and a code of `reasons.py`."""

    project: str
    certificate: Der
    code: str | None


class RenewalWritten(Message, frozen=True, tag="RenewalWritten"):
    """Box -> gateway: the new certificate is on the card and was read back. Signed by the new container."""

    project: str
    authenticator: bytes  # RFC 9261


class RenewalClosed(Message, frozen=True, tag="RenewalClosed"):
    """Gateway -> box: the old certificate opens nothing any more; it may go from the card."""

    project: str
    nonce: bytes  # for the next card signature


ToGateway = Hello | Activated | EvidenceMessage | CardProof | Open | Heartbeat | Close | RenewalRequest | RenewalWritten
ToBox = (
    Challenge
    | Attested
    | Refused
    | Offers
    | GrantMessage
    | Heartbeat
    | Closed
    | Renew
    | Revoke
    | RenewalPending
    | RenewalIssued
    | RenewalClosed
)
