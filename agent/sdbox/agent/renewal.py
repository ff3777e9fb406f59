"""Renewing the card's certificates while its holder works: due at half of their life, one after the other.

    this session:       key on the card -> PKCS#10 -> centre -> certificate -> written beside the old one
    a later insertion:  read from the card -> the new one signs -> the centre voids the old one -> removed

There is no journal but the card and the centre's record. The box has no disk for one, and a card goes on in another
box; what is on the card is what was done, whatever was pulled and when. Two containers for one project are a renewal to
be finished, a key without a certificate one to be gone on with (`sdbox.smartcard.renewal`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from sdbox.agent import journal
from sdbox.agent.card import CardSeat, starts
from sdbox.agent.channel.channel import Channel
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import Container

# After these, the next container fares no better.
OVER: Final = {Reason.CARD_FAILED, Reason.RENEWAL_UNAVAILABLE, Reason.GATEWAY_UNREACHABLE, Reason.PROTOCOL}


def is_due(container: Container, now: datetime) -> bool:
    """Whether the certificate is past half of its life, and still valid."""
    certificate = x509.load_der_x509_certificate(container.certificate)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) / 2 <= now < end


def by_project(containers: tuple[Container, ...]) -> Iterator[tuple[Container, ...]]:
    """Yield the containers of each project, the newest first."""
    for project in dict.fromkeys(container.project for container in containers):
        yield tuple(sorted((c for c in containers if c.project == project), key=starts, reverse=True))


class Renewals:
    """At most one renewal is under way. Whatever becomes of it, the session does not feel it; failures are noted."""

    def __init__(self) -> None:
        self._seat: CardSeat | None = None
        self._task: asyncio.Task[None] | None = None

    def consider(self, channel: Channel, seat: CardSeat) -> None:
        """Begin with the card that is in, once for each insertion. Returns at once."""
        if seat is self._seat:
            return
        if self._task is not None:
            self._task.cancel()  # its card is gone
        self._seat = seat
        self._task = asyncio.get_running_loop().create_task(_renew_card(channel, seat))
        self._task.add_done_callback(_noted)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])


def _noted(task: asyncio.Task[None]) -> None:
    """Even what nobody expected ends the renewal and not the session: the next insertion goes on with it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        journal.broken(error)


async def _renew_card(channel: Channel, seat: CardSeat) -> None:
    for newest, *older in by_project(seat.project_containers()):
        try:
            finished = older and await _finish(channel, seat, newest, older)
            if not finished and channel.renews and is_due(newest, datetime.now(UTC)):
                await _begin(channel, seat, newest)
        except Refusal as refusal:
            journal.explain(refusal)
            if refusal.reason in OVER:
                return


async def _begin(channel: Channel, seat: CardSeat, old: Container) -> None:
    """Have a successor made and put it on the card; the old one stays what the session uses."""
    renewal = seat.renewal(old)
    key_id = await renewal.new_key()
    journal.phase("renewal-key")
    request = await renewal.request(key_id)
    certificate = await channel.request_renewal(old.project or "", request, seat.patient_signer(old))
    journal.phase("renewal-issued")
    try:
        await renewal.write(key_id, certificate)
    except Refusal as refusal:  # it may be full: no more keys for certificates that it will not take
        raise Refusal(Reason.CARD_FAILED, f"not written: {refusal.detail}") from refusal
    journal.phase("renewal-written")


async def _finish(channel: Channel, seat: CardSeat, newest: Container, older: list[Container]) -> bool:
    """Let the new container sign, then remove the old ones: not before the centre has said that they are void.

    False if the centre knows of no renewal here: a card may have two containers for a project for other reasons.
    """
    try:
        await channel.confirm_renewal(newest.project or "", seat.patient_signer(newest))
    except Refusal as refusal:
        if refusal.reason is not Reason.RENEWAL_REFUSED:
            raise
        return False
    journal.phase("renewal-confirmed")
    for old in older:
        seat.identity = await seat.renewal(old).retire(newest)
    journal.phase("renewal-done")
    return True
