"""From a raw log to PCR values, and from quoted PCR values to a log that can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdbox.boot.eventlog import RawEventLog
from sdbox.boot.eventtypes import EV_EFI_HCRTM_EVENT
from sdbox.boot.pcr import Bank, extend, reset_value

_HCRTM_LOCALITY = 4


class ReplayError(Exception):
    """The log does not give the quoted values. `pcrs` are the indices that differ."""

    def __init__(self, pcrs: tuple[int, ...]) -> None:
        super().__init__("the event log does not replay to the quoted value of PCR " + ", ".join(map(str, pcrs)))
        self.pcrs = pcrs


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """A measurement that is part of a quoted PCR. `data` is None where the digest does not cover the record's data."""

    pcr: int
    type: int
    digest: bytes
    data: bytes | None


@dataclass(frozen=True, slots=True)
class VerifiedEventLog:
    """The events of the quoted PCRs, in order. Only `verify` makes one."""

    bank: Bank
    events: tuple[VerifiedEvent, ...]


def replay(log: RawEventLog) -> dict[Bank, dict[int, bytes]]:
    """Return the value of every PCR that has events, for each bank with a digest in every extending event."""
    complete = [b for b in log.banks if all(b in event.digests for event in log.events if event.extends)]
    values = {bank: replay_bank(log, bank) for bank in complete}
    return {bank: pcrs for bank, pcrs in values.items() if pcrs}


def replay_bank(log: RawEventLog, bank: Bank) -> dict[int, bytes]:
    """Return the value of every PCR with events in `bank`; KeyError if an event has no digest for it."""
    values: dict[int, bytes] = {}
    for event in log.events:
        if event.extends:
            value = values.get(event.pcr)
            if value is None:
                value = reset_value(bank, event.pcr, _start_locality(log))
            values[event.pcr] = extend(bank, value, event.digests[bank])
    return values


def verify(log: RawEventLog, bank: Bank, quoted: Mapping[int, bytes]) -> VerifiedEventLog:
    """Return the events of the `quoted` PCRs; ReplayError unless each PCR replays to its quoted value (checklist 18).

    A PCR without events must be quoted at its reset value: a truncated log does not pass.
    """
    incomplete = [index for index in quoted if not _has_digests(log, bank, index)]
    if incomplete:
        raise ReplayError(tuple(sorted(incomplete)))
    locality = _start_locality(log)
    values = {index: reset_value(bank, index, locality) for index in quoted}
    events = [event for event in log.events if event.extends and event.pcr in quoted]
    for event in events:
        values[event.pcr] = extend(bank, values[event.pcr], event.digests[bank])
    wrong = tuple(sorted(index for index, value in quoted.items() if values[index] != value))
    if wrong:
        raise ReplayError(wrong)
    return VerifiedEventLog(bank, tuple(_believe(bank, e.pcr, e.type, (e.digests[bank], e.data)) for e in events))


def _believe(bank: Bank, pcr: int, event_type: int, record: tuple[bytes, bytes]) -> VerifiedEvent:
    digest, data = record
    return VerifiedEvent(pcr, event_type, digest, data if bank.digest(data) == digest else None)


def _has_digests(log: RawEventLog, bank: Bank, index: int) -> bool:
    return all(bank in event.digests for event in log.events if event.extends and event.pcr == index)


def _start_locality(log: RawEventLog) -> int:
    """An H-CRTM event means that PCR 0 started at 4 even if the firmware left the StartupLocality event out."""
    hcrtm = any(event.pcr == 0 and event.type == EV_EFI_HCRTM_EVENT for event in log.events)
    return _HCRTM_LOCALITY if hcrtm else log.locality
