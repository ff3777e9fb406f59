"""The card that is in: its worker process, its login, its signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from sdbox.agent import journal
from sdbox.agent.events import (
    CardRefused,
    CardStep,
    FingerAwaited,
    FingerRefused,
    LastFinger,
    LastPin,
    PinAwaited,
    PinRefused,
    Verified,
)
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.card_process import Runner
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.client_renewal import CardRenewal, PatientSigner
from sdbox.smartcard.judgement import signer_of_card
from sdbox.smartcard.recognise import atr_in, recognise
from sdbox.smartcard.spare import Spare
from sdbox.smartcard.values import CardInserted, LoginMethod, LoginRefused, LoginStatus
from sdbox.smartcard.variants import Variant, variant_named

CARD_USER: Final = "sdbox-card"
TOKEN_READER: Final = ""  # the reader of a token without one


@dataclass(frozen=True, slots=True)
class ContainerSigner:
    """One container of a verified card; what the channel calls a Signer."""

    worker: CardWorker
    container: Container

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (self.container.certificate,)

    async def sign(self, schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        return await self.worker.sign(self.container.key_id, content, schemes)


class CardSeat:
    """Where one card sits, from insertion to removal. One VERIFY per call of `login`, never one by itself (S7)."""

    def __init__(
        self,
        inserted: CardInserted,
        *,
        user: str | None = CARD_USER,
        token: str | None = None,
        spare: Spare | None = None,
    ) -> None:
        """`token`: the variant of what has no reader. `spare`: where a worker waits, of the same user."""
        self.reader = inserted.reader
        self.identity: CardIdentity | None = None
        self._atr = inserted.atr
        self._runner = Runner(user)
        self._token = token
        self._spare = spare
        self._worker: CardWorker | None = None
        self._method = LoginMethod.PIN
        self._gone = False

    async def read(self) -> CardStep:
        """Start the worker and return how this card wants its holder verified, or why it cannot be used."""
        try:
            status = await self._status()
        except Refusal as refusal:
            journal.explain(refusal)
            return CardRefused(refusal.reason)
        self._method = status.method
        return first_step(status)

    async def _status(self) -> LoginStatus:
        """Ask the card, and once more if it turned into something else: that costs no try.

        pcscd sees nothing of a card that is swapped within milliseconds while it is being read: the new one answers in
        the old one's connection. A card that is silent is not asked again.
        """
        try:
            return await (await self._start(await self._variant())).status()
        except Refusal as refusal:
            if self._token or self._worker is None or self._worker.silent or refusal.reason is not Reason.CARD_FAILED:
                raise
            journal.explain(refusal)
        old, self._worker = self._worker, None
        await old.close()
        self._atr = await asyncio.to_thread(atr_in, self.reader)
        return await (await self._start(await self._variant())).status()

    async def _variant(self) -> Variant:
        if self._token:
            return variant_named(self._token)
        return await recognise(self.reader, self._atr, self._runner)

    async def login(self, pin: bytearray | None, *, last_try: bool) -> CardStep:
        """Verify the holder with one VERIFY; `pin` is overwritten by the worker's client.

        The card's last try is left alone unless `last_try`: the worker looks at the counter once more before.
        """
        try:
            self.identity = await self._live().login(pin, last_try=last_try)
        except LoginRefused as refused:
            return refused_step(self._method, refused)
        except Refusal as refusal:
            journal.explain(refusal)
            return CardRefused(refusal.reason)
        return Verified(self.identity)

    def signer(self, certificate: bytes) -> ContainerSigner:
        """Return the signer of the container whose certificate has this SHA-256; never chosen by position or label."""
        for container in self.project_containers():
            if container.fingerprint == certificate:
                return ContainerSigner(self._live(), container)
        raise Refusal(Reason.PROJECT_NOT_ON_CARD)

    def card_signer(self) -> ContainerSigner:
        """Return who signs for the whole card; Refusal(CARD_EMPTY) if it carries no project."""
        container = signer_of_card(self.project_containers(), datetime.now(UTC))
        if container is None:
            raise Refusal(Reason.CARD_EMPTY)
        return ContainerSigner(self._live(), container)

    def project_containers(self) -> tuple[Container, ...]:
        containers = self.identity.containers if self.identity else ()
        return tuple(container for container in containers if container.project is not None)

    def renewal(self, container: Container) -> CardRenewal:
        """Return the renewal of one of its containers, to be done beside the session."""
        return CardRenewal(self._live(), container)

    def patient_signer(self, container: Container) -> PatientSigner:
        """Return the signer for work that can wait."""
        return PatientSigner(self._live(), container)

    def kill(self) -> None:
        """The card is gone: end its worker at once."""
        self._gone = True
        if self._worker is not None:
            self._worker.kill()

    async def close(self) -> None:
        """End the card session with a card reset, so that no other process can sign. Idempotent."""
        self._gone = True
        self.identity = None
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    async def _start(self, variant: Variant) -> CardWorker:
        runner = self._runner
        starting = asyncio.ensure_future(
            CardWorker.start(variant, self.reader, user=runner.user, python=runner.python, spare=self._spare)
        )
        try:
            worker = await asyncio.shield(starting)
        except asyncio.CancelledError:
            (await starting).kill()  # it must not outlive a card that was pulled meanwhile
            raise
        if self._gone:
            worker.kill()
            raise Refusal(Reason.CARD_FAILED, "removed")
        self._worker = worker
        return worker

    def _live(self) -> CardWorker:
        if self._worker is None or self._gone:
            raise Refusal(Reason.CARD_FAILED, "no card session")
        return self._worker


def starts(container: Container) -> datetime:
    """Return when the container's certificate begins to be valid."""
    return x509.load_der_x509_certificate(container.certificate).not_valid_before_utc


def first_step(status: LoginStatus) -> CardStep:
    """Return what follows an insertion. The last try is not begun before the user confirms it (S7)."""
    if status.blocked:
        return CardRefused(Reason.CARD_BLOCKED)
    if status.final_try:
        return last_step(status.method, status.tries, None)
    return FingerAwaited(status.tries) if status.method is LoginMethod.FINGER else PinAwaited(status.tries)


def refused_step(method: LoginMethod, refused: LoginRefused) -> CardStep:
    """Return what a refused login means for the state machine."""
    if refused.reason is Reason.CARD_BLOCKED:
        return CardRefused(refused.reason)
    if refused.final_try:
        return last_step(method, refused.tries, refused.reason)
    if method is LoginMethod.FINGER:
        return FingerRefused(refused.reason, refused.tries)
    return PinRefused(refused.reason, refused.tries)


def last_step(method: LoginMethod, tries: int | None, refused: Reason | None) -> CardStep:
    return LastFinger(tries, refused) if method is LoginMethod.FINGER else LastPin(tries, refused)
