"""The TCG event log as the firmware wrote it: strict and bounded parsing, nothing believed.

Two formats (PC Client Platform Firmware Profile 1.06, 10.2): crypto-agile, announced by a Spec ID event, and the older
one with SHA-1 only. What comes out is a `RawEventLog`: its events prove nothing until `replay.verify` has compared
them with quoted PCR values. One pass, no look-back, nothing kept but what the log itself holds.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import BinaryIO, Final

import msgspec

from sdbox.boot.eventtypes import EV_EFI_HCRTM_EVENT, EV_NO_ACTION, NAMES
from sdbox.boot.pcr import ALGORITHM_IDS, PCR_COUNT, Bank
from sdbox.boot.reader import Reader, Truncated

MAX_LOG: Final = 8 << 20
MAX_EVENTS: Final = 16384
MAX_ALGORITHMS: Final = 16
_SPEC_ID = b"Spec ID Event03\0"
_LOCALITY = b"StartupLocality\0"
_VERSION = struct.Struct("<IBBBB")  # platform class, minor and major version, errata, UINTN in units of 32 bits
_HCRTM_LOCALITY = 4
_NO_PCR = 0xFFFFFFFF  # allowed for EV_NO_ACTION, which extends nothing (10.4.1)
_LEGAL_LOCALITIES = (0, 3, 4)  # TPM2_Startup comes from locality 0 or 3, an H-CRTM from 4 (10.4.5.3)
_OLD = struct.Struct("<II20sI")  # TCG_PCR_EVENT up to its data
_HEAD = struct.Struct("<III")  # TCG_PCR_EVENT2: PCR index, type, number of digests


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
    IMPLIED_LOCALITY = "implied-locality"


class Note(msgspec.Struct, frozen=True):
    """A quirk and where it was seen."""

    quirk: Quirk
    text: str


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """One record. `data` is whatever the record says; only `digests` can be checked against a quote."""

    number: int
    pcr: int
    type: int
    digests: dict[Bank, bytes]
    data: bytes

    @property
    def extends(self) -> bool:
        return self.type != EV_NO_ACTION


class RawEventLog(msgspec.Struct, frozen=True):
    """A parsed log nobody has verified. `banks` are those its Spec ID event announces (SHA-1 in the old format).

    PCR 0 started at `locality`.
    """

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


def read_event_log(file: BinaryIO) -> RawEventLog:
    """Parse what `file` gives; one that never ends costs MAX_LOG bytes and an EventLogError."""
    return parse_event_log(file.read(MAX_LOG + 1))


class _Parser:
    """Reads record after record; keeps what the Spec ID event said about digest sizes."""

    def __init__(self, data: bytes) -> None:
        self.reader = Reader(data)
        self.sizes: dict[int, int] = {}  # algorithm id to digest size
        self.events: list[RawEvent] = []
        self.notes: list[Note] = []
        self.locality: int | None = None
        self.has_hcrtm = False
        self.measured_pcr_0 = False
        last = data[-1:]
        # Some firmware hands over the whole log area: its rest is one repeated byte, which is never a record.
        self.padding = len(data.rstrip(last)) if last in {b"\0", b"\xff"} else len(data)

    def parse(self) -> RawEventLog:
        first = self._old_record()
        self._keep(first)
        if self._is_spec_id(first):
            self._spec_id(first)
            self._records(agile=True)
        else:
            self._note(Quirk.NO_SPEC_ID, "SHA-1 log in the old format: no Spec ID event")
            self.sizes = {0x0004: Bank.SHA1.size}
            self._records(agile=False)
        banks = tuple(ALGORITHM_IDS[number] for number in self.sizes if number in ALGORITHM_IDS)
        self._note_missing(banks)
        locality = self._start_locality()
        return RawEventLog(tuple(self.events), banks, locality, tuple(self.notes))

    def _records(self, *, agile: bool) -> None:
        """Read up to the end, or to the padding. Most records have one digest per algorithm: one unpack for those."""
        usual = _Usual(self.sizes) if agile and len(self.sizes) <= MAX_ALGORITHMS else None
        reader, events = self.reader, self.events
        while reader.left:
            if reader.offset >= self.padding:
                rest = reader.rest()
                self._note(Quirk.PADDING, f"{len(rest)} bytes 0x{rest[0]:02X} after the last event")
                return
            if len(events) >= MAX_EVENTS:
                raise EventLogError(f"more than {MAX_EVENTS} events")
            event = usual.take(reader, len(events)) if usual else self._old_record()
            self._keep(event or self._agile_record())

    def _old_record(self) -> RawEvent:
        if self.reader.left < _OLD.size:
            self._truncated_old()
        pcr, event_type, digest, size = self.reader.unpack(_OLD)
        data = self.reader.take(size, "event data")
        return RawEvent(len(self.events), pcr, event_type, {Bank.SHA1: digest}, data)

    def _truncated_old(self) -> None:
        """Name the field at which the record ends."""
        for size, what in ((4, "PCR index"), (4, "event type"), (20, "digest"), (4, "event size")):
            self.reader.take(size, what)

    def _agile_record(self) -> RawEvent:
        pcr, event_type = self.reader.u32("PCR index"), self.reader.u32("event type")
        digests = self._digests()
        data = self.reader.take(self.reader.u32("event size"), "event data")
        return RawEvent(len(self.events), pcr, event_type, digests, data)

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
        if event.type != EV_NO_ACTION:
            self.measured_pcr_0 = self.measured_pcr_0 or event.pcr == 0
            self.has_hcrtm = self.has_hcrtm or (event.pcr == 0 and event.type == EV_EFI_HCRTM_EVENT)
        elif self.events and self._is_spec_id(event):
            self._note(Quirk.REPEATED_SPEC_ID, f"event {event.number}: another Spec ID event")
        elif event.data.startswith(_LOCALITY):
            self._startup_locality(event)
        self.events.append(event)

    def _startup_locality(self, event: RawEvent) -> None:
        """10.4.5.3: one byte, in PCR 0's part of the log, before its first extending event."""
        late = self.measured_pcr_0
        if event.pcr != 0 or late or self.locality is not None or len(event.data) != len(_LOCALITY) + 1:
            raise EventLogError(f"event {event.number}: misplaced StartupLocality")
        if event.data[-1] not in _LEGAL_LOCALITIES:
            raise EventLogError(f"event {event.number}: startup locality {event.data[-1]}")
        self.locality = event.data[-1]

    def _start_locality(self) -> int:
        """An H-CRTM event means that PCR 0 started at 4, even if the firmware left the StartupLocality event out."""
        said = self.locality or 0
        if not self.has_hcrtm or said == _HCRTM_LOCALITY:
            return said
        self._note(Quirk.IMPLIED_LOCALITY, f"an H-CRTM measured at locality {_HCRTM_LOCALITY}, the log says {said}")
        return _HCRTM_LOCALITY

    @staticmethod
    def _is_spec_id(event: RawEvent) -> bool:
        return event.type == EV_NO_ACTION and event.data.startswith(_SPEC_ID)

    def _spec_id(self, event: RawEvent) -> None:
        """TCG_EfiSpecIDEvent, 10.4.5.1: in PCR 0, no digest. Vendor information is skipped, left-over bytes are not."""
        reader = Reader(event.data[len(_SPEC_ID) :])
        platform, minor, major, _errata, uintn = reader.unpack(_VERSION)
        if event.pcr != 0 or any(event.digests[Bank.SHA1]):
            raise EventLogError(f"Spec ID event in PCR {event.pcr}, or with a digest")
        if (minor, major) != (0, 2) or platform not in {0, 1} or uintn not in {1, 2}:
            raise EventLogError(f"Spec ID event of version {major}.{minor}, platform class {platform}, UINTN {uintn}")
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

    def _note_missing(self, banks: tuple[Bank, ...]) -> None:
        for bank in banks:
            missing = sum(bank not in event.digests for event in self.events if event.type != EV_NO_ACTION)
            if missing:
                self._note(Quirk.MISSING_DIGESTS, f"{missing} events have no {bank} digest: that bank is not replayed")

    def _note(self, quirk: Quirk, text: str) -> None:
        self.notes.append(Note(quirk, text))


class _Usual:
    """A TCG_PCR_EVENT2 with a digest of every listed algorithm, in the Spec ID event's order, as one structure."""

    def __init__(self, sizes: dict[int, int]) -> None:
        self._layout = struct.Struct("<III" + "".join(f"H{size}s" for size in sizes.values()) + "I")
        self._head = (len(sizes), *sizes)
        self._banks = tuple(ALGORITHM_IDS.get(number) for number in sizes)

    def take(self, reader: Reader, number: int) -> RawEvent | None:
        """Return the next record and consume it, or None, with nothing consumed, if it is of another shape."""
        if reader.left < self._layout.size:
            return None
        fields = reader.peek(self._layout)
        if (fields[2], *fields[3:-1:2]) != self._head:
            return None
        reader.unpack(self._layout)
        digests = {bank: digest for bank, digest in zip(self._banks, fields[4::2], strict=False) if bank}
        return RawEvent(number, fields[0], fields[1], digests, reader.take(fields[-1], "event data"))
