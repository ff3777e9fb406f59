"""What the box itself sees of a card's containers: dates by its own clock, key usage, several for one project.

The gateway's verdict counts, here nothing is opened or refused: the box's clock may be wrong, and it knows neither
issuers nor revocations. This chooses who signs for the whole card, and names what the gateway did not judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import Container
from sdbox.smartcard.certificates import UNREADABLE, can_sign

Age = tuple[datetime, datetime, int]
_NEVER: Age = (datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), 0)


@dataclass(frozen=True, slots=True)
class Judged:
    """A container and what is wrong with it as far as the box sees; None if nothing is."""

    container: Container
    fault: Reason | None


def judge(containers: Sequence[Container], now: datetime) -> tuple[Judged, ...]:
    """Judge the containers that name a project, in their order. The newest sound one of a project has no fault."""
    named = [container for container in containers if container.project is not None]
    faults = [_fault(container, now) for container in named]
    newest: dict[str | None, Age] = {}
    for container, fault in zip(named, faults, strict=True):
        if fault is None:
            newest[container.project] = max(newest.get(container.project, _NEVER), _age(container))
    return tuple(
        Judged(
            container, fault or (None if _age(container) == newest[container.project] else Reason.CONTAINER_DUPLICATE)
        )
        for container, fault in zip(named, faults, strict=True)
    )


def signer_of_card(containers: Sequence[Container], now: datetime) -> Container | None:
    """Return the container that signs for the whole card: a sound one if there is one, None if none names a project.

    A key that may not sign would spoil the card's proof, and with it all the others' (OpenSC and some cards refuse).
    """
    judged = judge(containers, now)
    order = (None, Reason.CONTAINER_DUPLICATE, Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID)
    best = min(judged, key=lambda one: order.index(one.fault) if one.fault in order else len(order), default=None)
    return best.container if best else None


def _fault(container: Container, now: datetime) -> Reason | None:
    try:
        certificate = x509.load_der_x509_certificate(container.certificate)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE:
        return Reason.CERTIFICATE_UNREADABLE
    if not can_sign(certificate):
        return Reason.CERTIFICATE_USAGE
    if now < begin:
        return Reason.CERTIFICATE_NOT_YET_VALID
    return Reason.CERTIFICATE_EXPIRED if now > end else None


def _age(container: Container) -> Age:
    """Return what makes one certificate newer than another: its start, then its end, then its number."""
    try:
        certificate = x509.load_der_x509_certificate(container.certificate)
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.serial_number
    except UNREADABLE:
        return _NEVER
