"""What the initrd noted becomes part of the event log, in the banks that the log announces, and in no other form."""

from __future__ import annotations

import struct

import pytest

from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.microcode import MICROCODE_PCR, Microcode, encode_microcode, parse_microcode
from sdbox.boot.notes import MAX_NOTES, with_notes
from sdbox.boot.pcr import Bank
from tests.unit.boot_log_factory import agile_log, old_record

BANKS = (Bank.SHA1, Bank.SHA256, Bank.SHA384)
HEAD = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 0, 2)
THREE_BANKS = HEAD + struct.pack("<IHHHHHH", 3, 4, 20, 11, 32, 12, 48) + b"\0"
SM3_TOO = HEAD + struct.pack("<IHHHH", 2, 0x12, 32, 11, 32) + b"\0"
MEASURED = Microcode(0x306A9, 0x21)
NOTES = b"15 9 %s\n11 13 %s\n" % (encode_microcode(MEASURED).hex().encode(), b"leave-initrd".hex().encode())


def test_each_line_is_an_event_with_a_digest_in_every_bank() -> None:
    log = parse_event_log(with_notes(agile_log(spec_id=THREE_BANKS), NOTES))
    microcode, phase = log.events[1:]
    assert log.notes == ()
    assert (microcode.pcr, microcode.type, parse_microcode(microcode.data)) == (MICROCODE_PCR, 9, MEASURED)
    assert (phase.pcr, phase.type, phase.data) == (11, 13, b"leave-initrd")
    assert phase.digests == {bank: bank.digest(b"leave-initrd") for bank in BANKS}


def test_a_bank_that_can_not_be_hashed_is_left_out() -> None:
    unknown = SM3_TOO.replace(b"\x12\0", b"\x99\0")
    (event,) = parse_event_log(with_notes(agile_log(spec_id=unknown), b"11 13 00\n")).events[1:]
    assert set(event.digests) == {Bank.SHA256}


@pytest.mark.parametrize(
    "log",
    [b"", old_record(0, 3, b"text"), agile_log(spec_id=THREE_BANKS)[:60], agile_log(spec_id=THREE_BANKS)[:54]],
    ids=["empty", "SHA-1 only", "cut in the list of banks", "cut in its number"],
)
def test_a_log_without_a_list_of_banks_stays_as_it_is(log: bytes) -> None:
    assert with_notes(log, NOTES) == log


def test_no_notes_add_nothing() -> None:
    assert with_notes(agile_log(), b"") == agile_log()


@pytest.mark.parametrize(
    "notes",
    [
        NOTES[:-1],
        b"\n",
        b"24 13 00\n",
        b"-1 13 00\n",
        b"11 4294967296 00\n",
        b"11 13 0\n",
        b"11 13 \n",
        b"11 13 0A\n",
        b"11 13 00 00\n",
        b"11 13 " + b"00" * 129 + b"\n",
        b"11 13 00\n" * (MAX_NOTES // 9 + 1),
        "١١ 13 00\n".encode(),
    ],
)
def test_what_the_initrd_does_not_write_is_refused(notes: bytes) -> None:
    with pytest.raises(ValueError, match="notes"):
        with_notes(agile_log(), notes)
