"""Which event of which PCR makes a log differ from the reference values, and what that means: no verdict."""

from __future__ import annotations

from itertools import zip_longest

from sdbox.boot.eventlog import RawEvent, RawEventLog
from sdbox.boot.eventtypes import EV_EFI_ACTION, EV_EFI_VARIABLE_DRIVER_CONFIG, name_of
from sdbox.boot.firmware import FirmwareProfile
from sdbox.boot.measurement import Measurement
from sdbox.boot.microcode import MICROCODE_PCR, parse_microcode
from sdbox.boot.pcr import Bank, reset_value
from sdbox.boot.reference import ReferenceValues
from sdbox.boot.replay import replay
from sdbox.boot.secureboot import parse_variable_event

_SHOWN = 16  # hex digits of a digest: enough to tell two apart on one line

# What it means that a measurement of this name is another one, or missing. Keyed by PCR where the name is not enough.
_MEANINGS = {
    "variable SecureBoot": "Secure Boot is off",
    "variable PK": "the firmware belongs to somebody else: another platform key",
    "variable KEK": "somebody else may change the firmware's list of trusted keys",
    "variable db": "the firmware trusts another signer, or more than ours",
    "variable dbx": "the firmware's revocation list is another one",
    "authority db": "what was started is signed by another key of db than ours",
    "UKI": "another kernel image was started: older, newer or foreign",
    "loader": "another boot loader was started",
    "inner kernel": "another kernel was started from within the image",
    "boot attempt": "the firmware did not start the image as its first boot option",
    "section .cmdline": "another kernel command line, and with it perhaps another root file system",
    "section .linux": "another kernel",
    "section .initrd": "another initial file system",
    "section .osrel": "another image version",
    "section .ucode": "other processor microcode",
}
_EXTRA = {
    4: "something more was started",
    7: "something more was measured into the Secure Boot state",
    11: "the image has a part more, or the boot went on to another phase",
    12: "a command line, credential or add-on came from outside the image",
    13: "a system extension came from outside the image",
}
_FIRMWARE = {
    0: "another firmware, or other firmware code",
    2: "an option ROM or a driver that the profile does not have",
}
_MISSING = "it was never measured: the boot took another way, or the log was cut"
_NOT_LEFT = "it was never measured: the initrd had not run to its end, or does not measure"


def explain(
    log: RawEventLog, reference: ReferenceValues | None, profiles: tuple[FirmwareProfile, ...] = ()
) -> list[str]:
    """Return one line per PCR with an expected value, and below it one per event that differs from the expected one.

    For PCR 15 the processor and its microcode: the policy judges those.
    Of several firmware profiles, the one whose events fit best is compared.
    """
    values = replay(log).get(Bank.SHA256, {})
    lines: list[str] = []
    for index, expected, events in _expectations(log, reference, profiles):
        actual = values.get(index, reset_value(Bank.SHA256, index))
        if actual == expected:
            lines.append(f"PCR {index}: as expected")
        else:
            lines.append(f"PCR {index}: {actual.hex()}, expected {expected.hex()}")
            lines += _differences(log, index, events)
    if reference is not None and MICROCODE_PCR in reference.pcr_selection:
        lines.append(f"PCR {MICROCODE_PCR}: {_processor(log)}")
    return lines


def _processor(log: RawEventLog) -> str:
    events = [event for event in log.events if event.extends and event.pcr == MICROCODE_PCR]
    try:
        (event,) = events
        measured = parse_microcode(event.data)
    except ValueError:
        return f"{len(events)} measurements, expected one of processor and microcode"
    return f"processor {measured.name}, microcode 0x{measured.revision:x}"


def _expectations(
    log: RawEventLog, reference: ReferenceValues | None, profiles: tuple[FirmwareProfile, ...]
) -> list[tuple[int, bytes, tuple[Measurement, ...]]]:
    found: dict[int, tuple[bytes, tuple[Measurement, ...]]] = {}
    if profiles:
        best = min(profiles, key=lambda profile: sum(len(_differing(log, i, m)) for i, m in _events(profile)))
        found |= {index: (value, best.events.get(str(index), ())) for index, value in best.expected().items()}
    if reference is not None:
        events = reference.events
        found |= {index: (value, events.get(str(index), ())) for index, value in reference.expected().items()}
    return [(index, value, measured) for index, (value, measured) in sorted(found.items())]


def _events(profile: FirmwareProfile) -> list[tuple[int, tuple[Measurement, ...]]]:
    return [(int(index), measured) for index, measured in profile.events.items()]


def _differing(
    log: RawEventLog, index: int, expected: tuple[Measurement, ...]
) -> list[tuple[int, RawEvent | None, Measurement | None]]:
    events = [event for event in log.events if event.extends and event.pcr == index]
    pairs = enumerate(zip_longest(events, expected))
    return [(place, event, wanted) for place, (event, wanted) in pairs if not _same(event, wanted)]


def _same(event: RawEvent | None, wanted: Measurement | None) -> bool:
    return bool(event and wanted and event.digests.get(Bank.SHA256, b"").hex() == wanted.sha256)


def _differences(log: RawEventLog, index: int, expected: tuple[Measurement, ...]) -> list[str]:
    return [_difference(index, place, event, wanted) for place, event, wanted in _differing(log, index, expected)]


def _difference(index: int, place: int, event: RawEvent | None, wanted: Measurement | None) -> str:
    digest = event.digests.get(Bank.SHA256, b"").hex() if event else ""
    have = f"event {event.number}, {name_of(event.type)} {digest[:_SHOWN]} {hint(event.data)!r}" if event else "nothing"
    want = f"{wanted.name} {wanted.sha256[:_SHOWN]}" if wanted else "nothing more"
    return f"  PCR {index}[{place}]: {have}, expected {want}: {_meaning(index, event, wanted)}"


def _meaning(index: int, event: RawEvent | None, wanted: Measurement | None) -> str:
    if event is None:
        return _NOT_LEFT if wanted and wanted.name.startswith("phase ") else _MISSING
    if index == 7 and event.type == EV_EFI_ACTION:
        return "the firmware was in a mode that an honest box never has: " + hint(event.data)
    if index in _FIRMWARE:
        return _FIRMWARE[index]
    if wanted is None:
        return _EXTRA.get(index, "something more was measured")
    if wanted.name == "variable SecureBoot" and not _is_off(event):
        return "the Secure Boot state is not recorded where it should be"
    return _MEANINGS.get(wanted.name, "not what the image's build expected")


def _is_off(event: RawEvent) -> bool:
    try:
        variable = parse_variable_event(event.data)
    except ValueError:
        return False
    wrong_type = event.type != EV_EFI_VARIABLE_DRIVER_CONFIG
    return not wrong_type and variable.name == "SecureBoot" and variable.value != b"\x01"


def hint(data: bytes) -> str:
    """Return the printable part of the event's data: names of sections, actions and files, in ASCII or UTF-16."""
    text = "".join(chr(byte) for byte in data[:160] if 0x20 <= byte < 0x7F)
    return text[:60]
