"""Checks of the event log: rows 17, 18 and 19 of the checklist, and what depends on a log that was verified.

All that follows from a log by itself is computed once per log and policy (`Facts`); a box then only has to show that
its quoted values are the log's. The memory of facts is bounded and changes no verdict.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from sdbox.attestation.bootchecks import dbx_failures, difference, event_failures, microcode_failures, microcode_of
from sdbox.attestation.codes import failure
from sdbox.attestation.policy import Policy
from sdbox.attestation.verdict import Failure
from sdbox.boot.eventlog import EventLogError, Quirk, RawEventLog, parse_event_log
from sdbox.boot.eventtypes import DIGEST_COVERS_DATA, name_of
from sdbox.boot.firmware import PINNED
from sdbox.boot.microcode import Microcode
from sdbox.boot.pcr import Bank
from sdbox.boot.reference import ReferenceValues
from sdbox.boot.replay import ReplayError, VerifiedEvent, VerifiedEventLog, replay_quoted, verify

# Two are about banks that are not quoted; of the third the replay shows whether it is true. All are noted.
TOLERATED = frozenset({Quirk.UNKNOWN_ALGORITHM, Quirk.MISSING_DIGESTS, Quirk.IMPLIED_LOCALITY})


@dataclass(frozen=True, slots=True)
class Rules:
    """What the facts depend on beside the log: the reference values, the policy, and the PCRs quoted."""

    reference: ReferenceValues
    policy: Policy
    pcrs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a log says once it is believed: `values` it replays to, and what is wrong if a quote confirms them.

    `broken` is wrong whatever the quote says: a log that can not be read has no values. `rules` are those it was
    examined by.
    """

    rules: Rules
    broken: tuple[Failure, ...]
    values: dict[int, bytes]
    believed: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    model: str = ""  # of the firmware profile that fits, if the policy has any
    microcode: Microcode | None = None  # if it was measured, once


class LogMemory:
    """Facts by SHA-256 of the log, the least used dropped first. One per `Rules`: others are not remembered."""

    def __init__(self, rules: Rules, most: int = 1024) -> None:
        self._rules = rules
        self._most = most
        self._facts: OrderedDict[bytes, Facts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._facts)

    def find(self, rules: Rules, digest: bytes) -> Facts | None:
        """Return the facts of the log with this digest, if they are known under the same rules."""
        if not self._is_ours(rules):
            return None
        facts = self._facts.get(digest)
        if facts is not None:
            self._facts.move_to_end(digest)
        return facts

    def keep(self, rules: Rules, digest: bytes, facts: Facts) -> None:
        """Remember the facts of a log that a quote has confirmed: only those cost an attacker a TPM."""
        if self._is_ours(rules):
            self._facts[digest] = facts
            if len(self._facts) > self._most:
                self._facts.popitem(last=False)

    def _is_ours(self, rules: Rules) -> bool:
        ours = self._rules
        same = rules.reference is ours.reference and rules.policy is ours.policy
        return same and rules.pcrs == ours.pcrs


def examine(data: bytes, rules: Rules) -> Facts:
    """Return what the log says about the PCRs of `rules`, whoever sent it."""
    try:
        log = parse_event_log(data)
    except EventLogError as error:
        return Facts(rules, (failure("eventlog", str(error)),), {})
    broken = tuple(_format_failures(log))
    notes = tuple(f"{note.quirk}: {note.text}" for note in log.notes)
    try:
        values = replay_quoted(log, Bank.SHA256, rules.pcrs)
        verified = verify(log, Bank.SHA256, values)
    except ReplayError as error:
        return Facts(rules, (*broken, failure("eventlog-replay", str(error))), {}, (), notes)
    # What an event shows, the comparison with the reference often shows once more: one line for each code.
    events = _by_pcr(verified, rules)
    found = [*_data_failures(verified), *_believed(events, values, rules)]
    believed = tuple({item.code: item for item in reversed(found)}.values())[::-1]
    return Facts(rules, broken, values, believed, notes, _model(values, rules.policy), microcode_of(events))


def log_digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _format_failures(log: RawEventLog) -> Iterator[Failure]:
    """Row 17, one failure for each code: how often a box provokes it says nothing."""
    met: dict[Quirk, list[str]] = {}
    for note in log.notes:
        met.setdefault(note.quirk, []).append(note.text)
    if Bank.SHA256 not in log.banks and Quirk.NO_SPEC_ID not in met:
        yield failure("eventlog-bank", "the log has no SHA-256 digests")
    for quirk, (first, *more) in met.items():
        if quirk not in TOLERATED:
            yield failure(f"eventlog-{quirk}", f"{first} (and {len(more)} more)" if more else first)


def _by_pcr(log: VerifiedEventLog, rules: Rules) -> dict[int, list[VerifiedEvent]]:
    events: dict[int, list[VerifiedEvent]] = {index: [] for index in rules.pcrs}
    for event in log.events:
        events[event.pcr].append(event)
    return events


def _believed(events: dict[int, list[VerifiedEvent]], values: dict[int, bytes], rules: Rules) -> Iterator[Failure]:
    if rules.reference.rules:
        yield from event_failures(events)
    yield from dbx_failures(events, rules.reference)
    yield from microcode_failures(events, rules.policy)
    for index, wanted in rules.reference.expected().items():
        if index in values and values[index] != wanted:
            found = difference(index, events[index], rules.reference)
            if found:
                yield found
    yield from _firmware_failures(values, rules.policy)


def _firmware_failures(values: dict[int, bytes], policy: Policy) -> Iterator[Failure]:
    """Row 25."""
    if policy.firmware and not _model(values, policy):
        models = ", ".join(profile.model for profile in policy.firmware)
        yield failure("firmware", f"PCRs 0 and 2 are not those of {models}")


def _model(values: dict[int, bytes], policy: Policy) -> str:
    """Return the profile that fits: all pinned PCRs of one, never some of each, and nothing by one that pins less."""
    pinned = {index: values.get(index) for index in PINNED}
    for profile in policy.firmware:
        if profile.expected() == pinned:
            return profile.model or "unnamed"
    return ""


def _data_failures(log: VerifiedEventLog) -> Iterator[Failure]:
    """Row 19: a record whose data is not what was measured has been retyped or rewritten."""
    for event in log.events:
        if event.type in DIGEST_COVERS_DATA and event.data is None:
            yield failure("event-data", f"PCR {event.pcr}: the data of {name_of(event.type)} is not what was measured")
