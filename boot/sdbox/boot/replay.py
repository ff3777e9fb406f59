"""From a raw log to PCR values, and from quoted PCR values to a log that can be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from sdbox.boot.eventlog import RawEventLog
from sdbox.boot.eventtypes import EV_NO_ACTION
from sdbox.boot.pcr import Bank, reset_value


class ReplayError(Exception):
    """The log does not give the quoted values. `pcrs` are the indices that differ."""

    def __init__(self, pcrs: tuple[int, ...]) -> None:
        super().__init__("the event log does not replay to the quoted value of PCR " + ", ".join(map(str, pcrs)))
        self.pcrs = pcrs


class VerifiedEvent(msgspec.Struct, frozen=True, gc=False):
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
    indices = {event.pcr for event in log.events if event.type != EV_NO_ACTION}
    return _fold(log, bank, {index: reset_value(bank, index, log.locality) for index in indices})


def _fold(log: RawEventLog, bank: Bank, values: dict[int, bytes]) -> dict[int, bytes]:
    """Extend `values` with every event of their PCRs, in order. The parser has checked the digests' sizes."""
    hashed = bank.constructor
    for event in log.events:
        pcr = event.pcr
        if event.type != EV_NO_ACTION and pcr in values:
            values[pcr] = hashed(values[pcr] + event.digests[bank]).digest()
    return values


def replay_quoted(log: RawEventLog, bank: Bank, pcrs: Iterable[int]) -> dict[int, bytes]:
    """Return the value the log gives each of `pcrs`; ReplayError if an event of one has no digest in `bank`."""
    wanted = set(pcrs)
    incomplete = {e.pcr for e in log.events if e.type != EV_NO_ACTION and e.pcr in wanted and bank not in e.digests}
    if incomplete:
        raise ReplayError(tuple(sorted(incomplete)))
    return _fold(log, bank, {index: reset_value(bank, index, log.locality) for index in sorted(wanted)})


def verify(log: RawEventLog, bank: Bank, quoted: Mapping[int, bytes]) -> VerifiedEventLog:
    """Return the events of the `quoted` PCRs; ReplayError unless each PCR replays to its quoted value (checklist 18).

    A PCR without events must be quoted at its reset value: a truncated log does not pass.
    """
    values = replay_quoted(log, bank, quoted)
    events = [event for event in log.events if event.type != EV_NO_ACTION and event.pcr in quoted]
    wrong = tuple(sorted(index for index, value in quoted.items() if values[index] != value))
    if wrong:
        raise ReplayError(wrong)
    return VerifiedEventLog(bank, tuple(_believe(bank, e.pcr, e.type, (e.digests[bank], e.data)) for e in events))


def _believe(bank: Bank, pcr: int, event_type: int, record: tuple[bytes, bytes]) -> VerifiedEvent:
    digest, data = record
    return VerifiedEvent(pcr, event_type, digest, data if bank.digest(data) == digest else None)
