"""Values that cross component borders. Frozen: each is the proof that the step which made it was passed."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field

PROJECT_URI = "urn:sdbox:project:"


@dataclass(frozen=True, slots=True)
class BoxId:
    """The box's identity: the UUID of its board (SMBIOS), bound to its TPM by the factory inventory."""

    value: uuid.UUID

    @classmethod
    def parse(cls, text: str) -> BoxId:
        """Read a canonical UUID; ValueError otherwise (checklist row 33)."""
        value = uuid.UUID(text)
        if str(value) != text.strip().lower():
            raise ValueError("not a canonical UUID")
        return cls(value)

    @property
    def bytes(self) -> bytes:
        return self.value.bytes

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a box presents about itself (RFC 9334, section 8.1): `sdbox verify` reads the same fields as JSON."""

    attest: bytes  # TPMS_ATTEST
    signature: bytes  # TPMT_SIGNATURE
    ak_public: bytes  # TPMT_PUBLIC, without the TPM2B size
    event_log: bytes  # TCG PC Client crypto-agile log
    pcrs: dict[int, bytes]  # SHA-256 bank, index to 32 bytes


@dataclass(frozen=True, slots=True)
class AttestationResult:
    """The gateway's verdict as the box holds it: a signed EAR and how long it lasts."""

    ear: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Container:
    """One key pair and certificate of a card. `project` is None if the certificate names none."""

    key_id: bytes
    label: str
    certificate: bytes  # DER
    project: str | None

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate."""
        return hashlib.sha256(self.certificate).digest()


@dataclass(frozen=True, slots=True)
class CardIdentity:
    """A card whose holder has been verified: its serial and containers."""

    serial: str
    variant: str
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """A container as the gateway judges it. `reason` is None if it can be opened, else a reason code.

    `certificate` (SHA-256 of its DER) tells which of the card's containers it is; never its place on the card.
    """

    project: str
    title_fr: str
    title_en: str
    reason: str | None
    certificate: bytes
    fresh: bool = False  # the bubble wants its own verification of the holder, each time


@dataclass(frozen=True, slots=True)
class DesktopAccess:
    """Where the RDP server is, and the one-time credential for it. `secret` never leaves the process but by a pipe."""

    host: str
    port: int
    certificate_sha256: str  # hex
    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TunnelGrant:
    """The gateway's end of a WireGuard tunnel; its peer for us is installed before this is sent."""

    endpoints: tuple[str, ...]  # "address:port"
    peer_public: bytes  # X25519, 32 bytes
    preshared: bytes = field(repr=False)  # 32 bytes
    address: str = ""  # ours inside, "a.b.c.d/32"
    allowed: tuple[str, ...] = ()  # networks behind the peer


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to enter one bubble once: tunnel, desktop, and the lease that heartbeats keep alive."""

    session: str
    project: str
    tunnel: TunnelGrant
    desktop: DesktopAccess
    lease: int  # seconds without a heartbeat until the gateway removes the peer


@dataclass(frozen=True, slots=True)
class WipeReport:
    """What ending a session did and how long it took, in milliseconds since the cause was noticed."""

    cause: str
    picture_gone_ms: float
    keys_wiped_ms: float
