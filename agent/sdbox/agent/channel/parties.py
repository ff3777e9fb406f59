"""What the channel needs from others, the TPM's side (`Prover`) and the card's (`Signer`), and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import AttestationResult, Evidence


class Prover(Protocol):
    """The box's TPM. Awaited from the event loop: an implementation that blocks runs its work in a thread.

    Errors are `Refusal`s (usually one of the BOX_TPM reasons); anything else ends the channel with INTERNAL.
    """

    async def ak_name(self) -> bytes:
        """Return the TPM Name of the AK: algorithm identifier and SHA-256 digest, 34 bytes."""

    async def activate(self, id_object: bytes, encrypted_secret: bytes, ek_name: bytes) -> bytes:
        """Return the secret of a credential made for this TPM's EK, whose Name is `ek_name`, and its AK."""

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        """Return a fresh quote over `pcrs`, bound to nonce, channel, box and event log."""


class Signer(Protocol):
    """One container of the card, its holder already verified."""

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER certificates, the container's own first."""

    async def sign(self, schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        """Sign the whole `content` (not its digest) with one of `schemes`: TLS numbers, the verifier's favourite first.

        Returns the scheme and the signature as TLS wants it: ECDSA in DER. Refusal if the card fails.
        """


@dataclass(frozen=True, slots=True)
class Renewed:
    """The box was attested again in the background."""

    result: AttestationResult


@dataclass(frozen=True, slots=True)
class Revoked:
    """The gateway ended the session: wipe it now."""

    session: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Lost:
    """The channel is over; always the last event. `reason` says why: unreachable, or the gateway's refusal."""

    reason: Reason


Event = Renewed | Revoked | Lost
