"""Checks of the event log against the quoted values: rows 17, 18 and 19 of the verifier's checklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sdbox.attestation.verdict import Failure
from sdbox.boot.eventlog import EventLogError, Quirk, RawEventLog, parse_event_log
from sdbox.boot.eventtypes import DIGEST_COVERS_DATA, name_of
from sdbox.boot.pcr import Bank
from sdbox.boot.replay import ReplayError, VerifiedEventLog, verify

_TOLERATED = frozenset({Quirk.UNKNOWN_ALGORITHM, Quirk.MISSING_DIGESTS})  # about banks that are not quoted


def log_failures(data: bytes, quoted: Mapping[int, bytes]) -> Iterator[Failure]:
    """Yield what is wrong with the log, given the PCR values that the quote is over."""
    try:
        log = parse_event_log(data)
    except EventLogError as error:
        yield Failure(17, "eventlog", str(error))
        return
    yield from _format_failures(log)
    try:
        verified = verify(log, Bank.SHA256, quoted)
    except ReplayError as error:
        yield Failure(18, "eventlog-replay", str(error))
        return
    yield from _data_failures(verified)


def _format_failures(log: RawEventLog) -> Iterator[Failure]:
    if Bank.SHA256 not in log.banks:
        yield Failure(17, "eventlog-bank", "the log has no SHA-256 digests")
    for note in log.notes:
        if note.quirk not in _TOLERATED:
            yield Failure(17, f"eventlog-{note.quirk}", note.text)


def _data_failures(log: VerifiedEventLog) -> Iterator[Failure]:
    """Row 19: a record whose data is not what was measured has been retyped or rewritten."""
    for event in log.events:
        if event.type in DIGEST_COVERS_DATA and event.data is None:
            yield Failure(
                19, "event-data", f"PCR {event.pcr}: the data of {name_of(event.type)} is not what was measured"
            )
