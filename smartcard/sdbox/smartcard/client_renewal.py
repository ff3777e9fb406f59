"""The agent's side of a renewal: each step is a question to the card worker, asked when nobody else wants the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.frames import (
    AskRenewalKey,
    AskRenewalRequest,
    AskRenewalRetire,
    AskRenewalWrite,
    AskSign,
    TellIdentity,
    TellRenewal,
    TellSignature,
)

STEP_SECONDS: Final = 30.0  # as any other question: a switch that comes within a step waits for its end


@dataclass(frozen=True, slots=True)
class PatientSigner:
    """A container that signs when nobody else wants the card; what the channel calls a Signer."""

    worker: CardWorker
    container: Container

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (self.container.certificate,)

    async def sign(self, schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        ask = AskSign(self.container.key_id, content, tuple(schemes))
        told = await self.worker.patiently(ask, TellSignature, STEP_SECONDS)
        return told.scheme, told.signature


@dataclass(frozen=True, slots=True)
class CardRenewal:
    """The renewal of `old` on its card. Refusal(RENEWAL_FAILED) costs nothing; CARD_FAILED: the card is gone."""

    worker: CardWorker
    old: Container

    async def new_key(self) -> bytes:
        """Return the identifier of the key to be certified."""
        told = await self.worker.patiently(AskRenewalKey(self.old.certificate), TellRenewal, STEP_SECONDS)
        return told.value

    async def request(self, key_id: bytes) -> bytes:
        """Return a PKCS#10 (DER) by that key."""
        ask = AskRenewalRequest(self.old.certificate, key_id)
        return (await self.worker.patiently(ask, TellRenewal, STEP_SECONDS)).value

    async def write(self, key_id: bytes, certificate: bytes) -> CardIdentity:
        """Put the certificate (DER) beside its key; return the card as it is then, both containers on it."""
        ask = AskRenewalWrite(self.old.certificate, key_id, certificate)
        return self.worker.identity(await self.worker.patiently(ask, TellIdentity, STEP_SECONDS))

    async def retire(self, successor: Container) -> CardIdentity:
        """Remove the old container; return the card as it is then."""
        ask = AskRenewalRetire(self.old.certificate, successor.certificate)
        return self.worker.identity(await self.worker.patiently(ask, TellIdentity, STEP_SECONDS))
