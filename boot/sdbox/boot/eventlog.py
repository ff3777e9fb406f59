"""The TCG event log as the firmware wrote it: strict and bounded parsing, nothing believed.

Two formats (PC Client Platform Firmware Profile 1.06, 10.2): crypto-agile, announced by a Spec ID event, and the older
one with SHA-1 only. What comes out is a `RawEventLog`: its events prove nothing until `replay.verify` has compared
them with quoted PCR values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

from sdbox.boot.eventtypes import EV_NO_ACTION, NAMES
from sdbox.boot.pcr import ALGORITHM_IDS, PCR_COUNT, Bank
from sdbox.boot.reader import Reader, Truncated

MAX_LOG = 8 << 20
MAX_EVENTS = 16384
MAX_ALGORITHMS = 16
_SPEC_ID = b"Spec ID Event03\0"
_LOCALITY = b"StartupLocality\0"
_NO_PCR = 0xFFFFFFFF  # allowed for EV_NO_ACTION, which extends nothing (10.4.1)
_LEGAL_LOCALITIES = (0, 3, 4)  # TPM2_Startup comes from locality 0 or 3, an H-CRTM from 4 (10.4.5.3)


class EventLogError(Exception):
    """The bytes are not an event log, or one outside the limits. The text says where."""


class Quirk(StrEnum):
    """A deviation of real firmware that the parser tolerates and names; a verifier decides whether it does."""

    NO_SPEC_ID = "no-spec-id"
    PADDING = "padding"
    MISSING_DIGESTS = "missing-digests"
    UNKNOWN_ALGORITHM = "unknown-algorithm"
    UNKNOWN_TYPE = "unknown-type"
    REPEATED_SPEC_ID = "repeated-spec-id"


@dataclass(frozen=True, slots=True)
class Note:
    """A quirk and where it was seen."""

    quirk: Quirk
    text: str


@dataclass(frozen=True, slots=True)
class RawEvent:
    """One record. `data` is whatever the record says; only `digests` can be checked against a quote."""

    number: int
    pcr: int
    type: int
    digests: dict[Bank, bytes]
    data: bytes

    @property
    def extends(self) -> bool:
        return self.type != EV_NO_ACTION


@dataclass(frozen=True, slots=True)
class RawEventLog:
    """A parsed log nobody has verified. `banks` are those its Spec ID event announces (SHA-1 in the old format)."""

    events: tuple[RawEvent, ...]
    banks: tuple[Bank, ...]
    locality: int
    notes: tuple[Note, ...]


def parse_event_log(data: bytes) -> RawEventLog:
    """Parse a whole log; EventLogError on anything that is not one, on a limit, or on bytes left over."""
    if len(data) > MAX_LOG:
        raise EventLogError(f"log of {len(data)} bytes, at most {MAX_LOG} are read")
    try:
        return _Parser(data).parse()
    except Truncated as error:
        raise EventLogError(str(error)) from error


class _Parser:
    """Reads record after record; keeps what the Spec ID event said about digest sizes."""

    def __init__(self, data: bytes) -> None:
        self.reader = Reader(data)
        self.sizes: dict[int, int] = {}  # algorithm id to digest size
        self.events: list[RawEvent] = []
        self.notes: list[Note] = []
        self.locality: int | None = None

    def parse(self) -> RawEventLog:
        first = self._old_record()
        self._keep(first)
        if self._is_spec_id(first):
            self._spec_id(first.data)
            read = self._agile_record
        else:
            self._note(Quirk.NO_SPEC_ID, "SHA-1 log in the old format: no Spec ID event")
            self.sizes = {0x0004: Bank.SHA1.size}
            read = self._old_record
        while self.reader.left and not self._is_padding():
            if len(self.events) >= MAX_EVENTS:
                raise EventLogError(f"more than {MAX_EVENTS} events")
            self._keep(read())
        banks = tuple(ALGORITHM_IDS[number] for number in self.sizes if number in ALGORITHM_IDS)
        self._note_missing(banks)
        return RawEventLog(tuple(self.events), banks, self.locality or 0, tuple(self.notes))

    def _old_record(self) -> RawEvent:
        pcr, event_type = self.reader.u32("PCR index"), self.reader.u32("event type")
        digest = self.reader.take(Bank.SHA1.size, "digest")
        return RawEvent(len(self.events), pcr, event_type, {Bank.SHA1: digest}, self._data())

    def _agile_record(self) -> RawEvent:
        pcr, event_type = self.reader.u32("PCR index"), self.reader.u32("event type")
        digests = self._digests()
        return RawEvent(len(self.events), pcr, event_type, digests, self._data())

    def _data(self) -> bytes:
        return self.reader.take(self.reader.u32("event size"), "event data")

    def _digests(self) -> dict[Bank, bytes]:
        count = self.reader.u32("digest count")
        if not 0 < count <= len(self.sizes):
            raise EventLogError(f"event {len(self.events)}: {count} digests, the Spec ID event lists {len(self.sizes)}")
        seen: dict[int, bytes] = {}
        for _ in range(count):
            number = self.reader.u16("digest algorithm")
            if number not in self.sizes or number in seen:
                raise EventLogError(f"event {len(self.events)}: unlisted or repeated algorithm 0x{number:04X}")
            seen[number] = self.reader.take(self.sizes[number], "digest")
        return {ALGORITHM_IDS[number]: digest for number, digest in seen.items() if number in ALGORITHM_IDS}

    def _keep(self, event: RawEvent) -> None:
        if event.pcr >= PCR_COUNT and not (event.pcr == _NO_PCR and not event.extends):
            raise EventLogError(f"event {event.number}: PCR index {event.pcr}")
        if event.type not in NAMES:
            self._note(Quirk.UNKNOWN_TYPE, f"event {event.number}: type 0x{event.type:08X}")
        if self.events and self._is_spec_id(event):
            self._note(Quirk.REPEATED_SPEC_ID, f"event {event.number}: another Spec ID event")
        if not event.extends and event.data.startswith(_LOCALITY):
            self._startup_locality(event)
        self.events.append(event)

    def _startup_locality(self, event: RawEvent) -> None:
        """10.4.5.3: one byte, in PCR 0's part of the log, before its first extending event."""
        late = any(earlier.pcr == 0 and earlier.extends for earlier in self.events)
        if event.pcr != 0 or late or self.locality is not None or len(event.data) != len(_LOCALITY) + 1:
            raise EventLogError(f"event {event.number}: misplaced StartupLocality")
        if event.data[-1] not in _LEGAL_LOCALITIES:
            raise EventLogError(f"event {event.number}: startup locality {event.data[-1]}")
        self.locality = event.data[-1]

    @staticmethod
    def _is_spec_id(event: RawEvent) -> bool:
        return event.type == EV_NO_ACTION and event.data.startswith(_SPEC_ID)

    def _spec_id(self, data: bytes) -> None:
        """TCG_EfiSpecIDEvent, 10.4.5.1. Vendor information is skipped, left-over bytes are not."""
        reader = Reader(data[len(_SPEC_ID) :])
        reader.take(struct.calcsize("<IBBBB"), "Spec ID version")
        count = reader.u32("number of algorithms")
        if not 0 < count <= MAX_ALGORITHMS:
            raise EventLogError(f"Spec ID event lists {count} algorithms")
        for _ in range(count):
            self._algorithm(reader.u16("algorithm"), reader.u16("digest size"))
        reader.take(reader.u8("vendor information size"), "vendor information")
        if reader.left:
            raise EventLogError("bytes left over in the Spec ID event")

    def _algorithm(self, number: int, size: int) -> None:
        bank = ALGORITHM_IDS.get(number)
        if number in self.sizes or (bank and bank.size != size) or not 0 < size <= Bank.SHA512.size:
            raise EventLogError(f"Spec ID event: algorithm 0x{number:04X} twice or with digests of {size} bytes")
        if bank is None:
            self._note(Quirk.UNKNOWN_ALGORITHM, f"algorithm 0x{number:04X} is not replayed")
        self.sizes[number] = size

    def _is_padding(self) -> bool:
        """Some firmware hands over the whole log area: a rest of one repeated byte, which is never a record."""
        rest = self.reader.rest()
        if rest[0] not in (0x00, 0xFF) or rest.strip(rest[:1]):
            return False
        self._note(Quirk.PADDING, f"{len(rest)} bytes 0x{rest[0]:02X} after the last event")
        return True

    def _note_missing(self, banks: tuple[Bank, ...]) -> None:
        for bank in banks:
            missing = sum(event.extends and bank not in event.digests for event in self.events)
            if missing:
                self._note(Quirk.MISSING_DIGESTS, f"{missing} events have no {bank} digest: that bank is not replayed")

    def _note(self, quirk: Quirk, text: str) -> None:
        self.notes.append(Note(quirk, text))
