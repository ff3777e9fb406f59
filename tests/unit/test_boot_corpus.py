"""All logs of a folder: `SDBOX_EVENTLOG_CORPUS=FOLDER pytest tests/unit/test_boot_corpus.py`. None is kept here.

What is known of a log is found beside it: `expected.json` (file name to values), `NAME.yaml` (as tpm2_eventlog prints),
or, for an attestation kept as JSON, the PCRs in the same file. A log that is more than a fragment must parse, whether
or not anything is known of it; whatever is known must be what we compute.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sdbox.boot.eventlog import EventLogError, RawEventLog, parse_event_log
from sdbox.boot.pcr import Bank
from sdbox.boot.replay import ReplayError, replay, verify

BESIDE = Path(__file__).resolve().parents[3] / "shared/vectors/eventlogs"
CORPUS = Path(os.environ.get("SDBOX_EVENTLOG_CORPUS", BESIDE))
FRAGMENT = 300  # bytes: shorter ones are cut out of logs and may be refused
TEXT = {".md", ".yaml", ".yml", ".txt", ".warn", ".go", ".py", ".log"}
HASHES = {3: Bank.SHA1, 5: Bank.SHA256}  # how a JSON attestation numbers the hash of a PCR
Values = dict[str, dict[int, str]]
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="event-log corpus missing: set SDBOX_EVENTLOG_CORPUS")


@dataclass
class Sample:
    """A log, and what is known of it: PCR values by bank and index, hex."""

    name: str
    data: bytes
    known: Values = field(default_factory=dict)
    must_parse: bool = True


def samples() -> list[Sample]:
    if not CORPUS.is_dir():
        return []
    files = [path for path in sorted(CORPUS.rglob("*")) if path.is_file() and ".git" not in path.parts]
    table = CORPUS / "expected.json"
    expected = json.loads(table.read_text()) if table.exists() else {}
    found = [sample(path, expected.get(path.name)) for path in files if path != table and path.suffix not in TEXT]
    return [one for one in found if one]


def sample(path: Path, expected: dict[str, Any] | None) -> Sample | None:
    data = path.read_bytes()
    if path.suffix == ".json":
        return attestation(path.name, data)
    known = {
        bank: {int(i): v for i, v in pcrs.items()}
        for bank, pcrs in ((expected or {}).get("tpm2_eventlog_5_4") or {}).items()
    }
    beside = path.with_name(f"{path.name}.yaml")
    known |= printed(beside.read_text(errors="replace")) if beside.exists() else {}
    return Sample(path.name, data, known, must_parse=bool(known) or (len(data) >= FRAGMENT and starts_like_a_log(data)))


def attestation(name: str, data: bytes) -> Sample | None:
    """A quote, its PCR values and the log in one JSON file, as go-attestation keeps them."""
    document = json.loads(data)
    log = document.get("Log") if isinstance(document, dict) else None
    if not log:
        return None
    known: Values = {}
    for pcr in log["PCRs"]:
        known.setdefault(HASHES[pcr["DigestAlg"]], {})[pcr["Index"]] = base64.b64decode(pcr["Digest"]).hex()
    return Sample(name, base64.b64decode(log["Raw"]), known)


def printed(text: str) -> Values:
    """Return the `pcrs:` block that tpm2_eventlog prints."""
    known: Values = {}
    bank = ""
    for line in text.partition("\npcrs:\n")[2].splitlines():
        if heading := re.fullmatch(r"  (\w+):", line):
            bank = heading[1]
        elif value := re.fullmatch(r"\s+(\d+)\s*: 0x([0-9a-f]+)", line):
            known.setdefault(bank, {})[int(value[1])] = value[2]
    return known


def starts_like_a_log(data: bytes) -> bool:
    """A first record (TCG_PCR_EVENT) whose PCR and size are possible: text has neither."""
    pcr, size = int.from_bytes(data[:4], "little"), int.from_bytes(data[28:32], "little")
    return pcr < 24 and size <= len(data) - 32


@needs_corpus
@pytest.mark.parametrize("one", samples(), ids=lambda one: one.name)
def test_a_log_of_the_corpus(one: Sample) -> None:
    try:
        log = parse_event_log(one.data)
    except EventLogError:
        assert not one.must_parse, "more than a fragment, and refused"
        return
    values = replay(log)
    for name, pcrs in one.known.items():
        bank = Bank(name)
        ours = {index: value.hex() for index, value in values.get(bank, {}).items()}
        agree(log, bank, pcrs, ours)
    for bank, held in values.items():  # each value is also what `verify` accepts, and nothing else is
        assert verify(log, bank, held).events
        with pytest.raises(ReplayError):
            verify(log, bank, {index: bytes(len(value)) for index, value in held.items()})


def agree(log: RawEventLog, bank: Bank, known: dict[int, str], ours: dict[int, str]) -> None:
    """A PCR that only the operating system extended after the log ended is not in it: no events, no claim."""
    assert {index: known[index] for index in ours if index in known} == {i: v for i, v in ours.items() if i in known}
    assert set(ours) <= set(known), "a PCR that the record does not know"
    assert log.events, bank


@needs_corpus
def test_the_corpus_is_not_empty() -> None:
    assert sum(bool(one.known) for one in samples()) >= 1
    assert sum(one.must_parse for one in samples()) >= 1


def test_what_tpm2_eventlog_prints_is_read() -> None:
    text = "events:\n- EventNum: 0\npcrs:\n  sha1:\n    0  : 0xaa\n  sha256:\n    0  : 0xbb\n    14 : 0xcc\n"
    assert printed(text) == {"sha1": {0: "aa"}, "sha256": {0: "bb", 14: "cc"}}


def test_a_known_value_that_is_not_ours_is_an_error() -> None:
    log = parse_event_log(bytes(4) + b"\x08\0\0\0" + bytes(20) + b"\x01\0\0\0x")
    ours = {index: value.hex() for index, value in replay(log)[Bank.SHA1].items()}
    agree(log, Bank.SHA1, ours, ours)
    with pytest.raises(AssertionError):
        agree(log, Bank.SHA1, {0: "00" * 20}, ours)
