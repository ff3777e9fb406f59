"""The event-log parser: the recorded logs of others, and inputs that each break one rule."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.boot.eventlog import MAX_EVENTS, MAX_LOG, EventLogError, Quirk, parse_event_log, read_event_log
from sdbox.boot.pcr import Bank
from sdbox.boot.replay import ReplayError, replay, verify
from tests.unit.boot_log_factory import SPEC_ID, Record, agile_log, old_record

GOOD = agile_log(Record(4, 4, bytes(4)), Record(7, 4, bytes(4)))
HCRTM = Record(0, 0x80000010, b"HCRTM")


def test_a_file_is_read_within_the_limit() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            assert 0 <= size <= MAX_LOG + 1
            return bytes(size)

    assert read_event_log(io.BytesIO(GOOD)) == parse_event_log(GOOD)
    with pytest.raises(EventLogError, match="at most"):
        read_event_log(Endless())  # type: ignore[arg-type]


def test_many_records_of_pcr_0_cost_one_pass() -> None:
    """Records that begin like padding: looking ahead from each would take minutes, and the limit is on the count."""
    records = b"".join(agile_log(Record(0, 1, b""))[len(agile_log()) :] for _ in range(MAX_EVENTS))
    with pytest.raises(EventLogError, match="more than"):
        parse_event_log(agile_log() + records)


def test_a_good_log_has_no_notes() -> None:
    log = parse_event_log(GOOD)
    assert (len(log.events), log.banks, log.notes) == (3, (Bank.SHA256,), ())


EVENT = struct.pack("<IIIH", 4, 4, 1, 0x000B) + bytes(32) + struct.pack("<I", 4) + bytes(4)
BAD = {
    "empty": b"",
    "cut in the last event": GOOD[:-1],
    "cut in a digest": GOOD[:-20],
    "one stray byte": GOOD + b"\x01",
    "event size beyond the end": GOOD[:-8] + struct.pack("<I", 0xFFFFFFFF) + bytes(4),
    "no digest": GOOD + struct.pack("<IIII", 4, 4, 0, 0),
    "more digests than algorithms": GOOD + struct.pack("<III", 4, 4, 2) + (b"\x0b\0" + bytes(32)) * 2 + bytes(4),
    "an algorithm that is not listed": GOOD + EVENT.replace(b"\x0b\0", b"\x0c\0", 1),
    "PCR 24": GOOD + struct.pack("<I", 24) + EVENT[4:],
    "PCR -1 on an event that extends": GOOD + struct.pack("<I", 0xFFFFFFFF) + EVENT[4:],
    "Spec ID in PCR 7": agile_log(spec_id=SPEC_ID).replace(bytes(4), b"\x07\0\0\0", 1),
    "Spec ID with a digest": agile_log(spec_id=SPEC_ID)[:8] + b"\x01" * 20 + agile_log(spec_id=SPEC_ID)[28:],
    **{
        f"Spec ID with a {what} that there is none of": agile_log(spec_id=SPEC_ID[:at] + b"\xff" + SPEC_ID[at + 1 :])
        for what, at in (("platform class", 16), ("minor version", 20), ("major version", 21), ("size of UINTN", 23))
    },
    "wrong digest size": agile_log(spec_id=SPEC_ID.replace(b"\x0b\0\x20\0", b"\x0b\0\x14\0")),
    "no algorithms": agile_log(spec_id=SPEC_ID[:24] + bytes(4) + b"\0"),
    "too many algorithms": agile_log(spec_id=SPEC_ID[:24] + struct.pack("<I", 1 << 30)),
    "the same algorithm twice": agile_log(spec_id=SPEC_ID[:24] + struct.pack("<I", 2) + b"\x0b\0\x20\0" * 2 + b"\0"),
    "left-over bytes in Spec ID": agile_log(spec_id=SPEC_ID + b"\0"),
    "vendor information beyond Spec ID": agile_log(spec_id=SPEC_ID[:-1] + b"\x04"),
    "startup locality 1": agile_log(Record(0, 3, b"StartupLocality\0\x01")),
    "startup locality twice": agile_log(*[Record(0, 3, b"StartupLocality\0\x03")] * 2),
    "startup locality in PCR 1": agile_log(Record(1, 3, b"StartupLocality\0\x03")),
    "late startup locality": agile_log(Record(0, 4, bytes(4)), Record(0, 3, b"StartupLocality\0\x03")),
    "too long": bytes((8 << 20) + 1),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_malformed_log_is_refused(data: bytes) -> None:
    with pytest.raises(EventLogError):
        parse_event_log(data)


@pytest.mark.parametrize(
    ("data", "quirk"),
    [
        (GOOD + bytes(64), Quirk.PADDING),
        (GOOD + b"\xff" * 7, Quirk.PADDING),
        (agile_log(Record(4, 0x1234, b"x")), Quirk.UNKNOWN_TYPE),
        (agile_log(Record(0, 3, SPEC_ID)), Quirk.REPEATED_SPEC_ID),
        (old_record(4, 4, bytes(4)), Quirk.NO_SPEC_ID),
        (agile_log(HCRTM), Quirk.IMPLIED_LOCALITY),
        (agile_log(Record(0, 3, b"StartupLocality\0\x03"), HCRTM), Quirk.IMPLIED_LOCALITY),
    ],
)
def test_a_tolerated_quirk_is_named(data: bytes, quirk: Quirk) -> None:
    assert [note.quirk for note in parse_event_log(data).notes] == [quirk]


def test_an_h_crtm_is_measured_at_locality_4() -> None:
    said = parse_event_log(agile_log(Record(0, 3, b"StartupLocality\0\x04"), HCRTM))
    implied = parse_event_log(agile_log(HCRTM))
    assert (said.notes, said.locality, implied.locality) == ((), 4, 4)
    assert replay(said) == replay(implied)


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_pcr_0_starts_at_the_startup_locality(locality: int) -> None:
    records = [Record(0, 3, b"StartupLocality\0" + bytes([locality])), Record(0, 8, b"v")]
    value = replay(parse_event_log(agile_log(*records)))[Bank.SHA256][0]
    assert value == Bank.SHA256.digest(bytes(31) + bytes([locality]) + Bank.SHA256.digest(b"v"))


def test_an_event_that_extends_nothing_changes_no_pcr() -> None:
    assert replay(parse_event_log(agile_log(Record(4, 3, b"text")))) == {}


def test_verify_keeps_data_only_where_it_was_measured() -> None:
    log = parse_event_log(agile_log(Record(4, 4, bytes(4)), Record(4, 0x80000003, b"path", bytes(32))))
    events = verify(log, Bank.SHA256, replay(log)[Bank.SHA256]).events
    assert [event.data for event in events] == [bytes(4), None]


def test_verify_refuses_a_pcr_without_events_that_is_not_at_its_reset_value() -> None:
    log = parse_event_log(GOOD)
    quoted = replay(log)[Bank.SHA256]
    assert verify(log, Bank.SHA256, quoted | {11: bytes(32), 17: b"\xff" * 32})
    with pytest.raises(ReplayError) as caught:
        verify(log, Bank.SHA256, quoted | {11: b"\x01" * 32})
    assert caught.value.pcrs == (11,)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_no_input_does_anything_but_parse_or_be_refused(noise: bytes, place: int) -> None:
    try:
        replay(parse_event_log(GOOD[:place] + noise + GOOD[place + len(noise) :]))
    except EventLogError:
        return
