"""Which event of which PCR makes a log differ from the reference values: for people, never a verdict."""

from __future__ import annotations

from itertools import zip_longest

from sdbox.boot.eventlog import RawEvent, RawEventLog
from sdbox.boot.eventtypes import name_of
from sdbox.boot.measurement import Measurement
from sdbox.boot.pcr import Bank
from sdbox.boot.reference import ReferenceValues
from sdbox.boot.replay import replay

_SHOWN = 16  # hex digits of a digest: enough to tell two apart on one line


def explain(log: RawEventLog, reference: ReferenceValues) -> list[str]:
    """Return one line per PCR of the reference, and below it one per event that differs from the expected one."""
    values = replay(log).get(Bank.SHA256, {})
    lines = []
    for index, expected in sorted(reference.expected().items()):
        actual = values.get(index, bytes(Bank.SHA256.size))
        if actual == expected:
            lines.append(f"PCR {index}: as expected")
        else:
            lines.append(f"PCR {index}: {actual.hex()}, expected {expected.hex()}")
            lines += _differences(log, index, reference.events.get(str(index), ()))
    return lines


def _differences(log: RawEventLog, index: int, expected: tuple[Measurement, ...]) -> list[str]:
    events = [event for event in log.events if event.extends and event.pcr == index]
    pairs = enumerate(zip_longest(events, expected))
    return [line for place, (event, wanted) in pairs if (line := _difference(f"PCR {index}[{place}]", event, wanted))]


def _difference(place: str, event: RawEvent | None, wanted: Measurement | None) -> str | None:
    digest = event.digests.get(Bank.SHA256, b"").hex() if event else ""
    if wanted and digest == wanted.sha256:
        return None
    have = f"event {event.number}, {name_of(event.type)} {digest[:_SHOWN]} {hint(event.data)!r}" if event else "nothing"
    want = f"{wanted.name} {wanted.sha256[:_SHOWN]}" if wanted else "nothing more"
    return f"  {place}: {have}, expected {want}"


def hint(data: bytes) -> str:
    """Return the printable part of the event's data: names of sections, actions and files, in ASCII or UTF-16."""
    text = "".join(chr(byte) for byte in data[:160] if 0x20 <= byte < 0x7F)
    return text[:60]
