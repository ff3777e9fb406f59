"""What outlasts a state: remembered from events, shown by `view.py`. Pure."""

from __future__ import annotations

from dataclasses import replace

from sdbox.agent import events as m
from sdbox.agent.machine import State
from sdbox.agent.view import Memory
from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import Offer


def remembered(memory: Memory, event: m.Event, state: State) -> Memory:
    """Return the memory after `event` led to `state`."""
    match event:
        case m.FingerAwaited(tries) | m.PinAwaited(tries):
            memory = replace(memory, tries=tries)
        case m.LastFinger(tries, refused) | m.LastPin(tries, refused):
            memory = replace(memory, tries=tries, reason=refused or Reason.CARD_LAST_TRY)
        case m.Cancel() if state is State.REFUSED_CARD:
            memory = replace(memory, reason=Reason.CARD_LAST_TRY)  # whatever was refused before: nothing was tried now
        case m.FingerRefused(reason, tries) | m.PinRefused(reason, tries):
            memory = replace(memory, tries=tries, reason=reason)
        case m.ProjectRefused(reason) | m.SessionRevoked(reason=reason) if reason.value.startswith("certificate-"):
            memory = replace(memory, reason=reason, offers=_closed(memory, reason))
        case m.CardRefused(reason) | m.ProjectRefused(reason) | m.SessionRevoked(reason=reason):
            memory = replace(memory, reason=reason)
        case m.CardExpired(reason):
            memory = Memory(reason=reason)
        case m.LinkRefused(reason) if state is State.REFUSED_LINK:
            memory = replace(memory, reason=reason)
        case m.Offered(offers):
            memory = replace(memory, offers=offers)
    return memory


def _closed(memory: Memory, reason: Reason) -> tuple[Offer, ...]:
    """Return the offers without the one of the open project: its certificate was revoked, or has expired meanwhile."""
    gone = memory.offer(memory.project)
    return tuple(replace(offer, reason=reason.value) if offer is gone else offer for offer in memory.offers)


def refusals(event: m.Event, memory: Memory) -> tuple[Reason, ...]:
    """Return the codes that `event` brings for the journal; `memory` is the one after it."""
    told: tuple[Reason, ...] = ()
    match event:
        case m.LinkLost(reason) if reason is not Reason.GATEWAY_UNREACHABLE:
            told = (reason,)
        case m.Offered(offers):
            told = tuple(Reason(offer.reason) for offer in offers if offer.reason is not None)
        case m.LinkRefused(reason) if memory.reason is reason:
            told = (reason,)
        case m.LastFinger() | m.LastPin() | m.FingerRefused() | m.PinRefused() | m.CardExpired():
            told = () if memory.reason is None else (memory.reason,)
        case m.CardRefused(reason) | m.ProjectRefused(reason) | m.SessionRevoked(reason=reason):
            told = (reason,)
        case m.Cancel() if memory.reason is Reason.CARD_LAST_TRY:
            told = (memory.reason,)
    return told
