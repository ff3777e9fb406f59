"""What the events of a verified log say about the boot: rows 20, 21, 22, 23, 24, 25, 26 and 27 of the checklist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sdbox.attestation.codes import failure
from sdbox.attestation.policy import Policy, is_recent
from sdbox.attestation.verdict import Failure
from sdbox.boot.eventtypes import EV_EFI_ACTION, EV_EFI_VARIABLE_DRIVER_CONFIG
from sdbox.boot.grammar import misplaced
from sdbox.boot.measurement import Measurement
from sdbox.boot.microcode import MICROCODE_PCR, Microcode, parse_microcode
from sdbox.boot.reference import ReferenceValues
from sdbox.boot.replay import VerifiedEvent
from sdbox.boot.secureboot import CERT_SHA256, Variable, parse_variable_event, signatures

Events = Mapping[int, Sequence[VerifiedEvent]]
_EXIT = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
_ACTIONS = {b"UEFI Debug Mode": "debug-mode", b"DMA Protection Disabled": "dma-protection"}
_KEYS = ("PK", "KEK", "db")
_CODES = {4: "pcr-4", 7: "pcr-7", 11: "pcr-11", 12: "pcr-12", 13: "pcr-13"}
_COMMAND_LINE = "section .cmdline"


def event_failures(events: Events) -> Iterator[Failure]:
    """Rows 20, 21 and 24: what the events may be at all. Only for reference values made with these rules in mind."""
    for pcr, measured in events.items():
        wrong = misplaced(pcr, measured)
        if wrong:
            yield failure("event-order", wrong)
    if 7 in events:
        yield from _secure_boot_failures(events[7])
    if 5 in events:
        actions = tuple(event.data for event in events[5] if event.type == EV_EFI_ACTION)
        if actions != _EXIT:
            yield failure("boot-services", f"{len(actions)} actions in PCR 5, not ExitBootServices and its success")


def _secure_boot_failures(events: Sequence[VerifiedEvent]) -> Iterator[Failure]:
    """Row 21, the part that is about single events; the rest is a comparison with the reference's measurements."""
    if _variables(events).get("SecureBoot") != b"\x01":
        yield failure("secure-boot-off", "the variable SecureBoot is not 1")
    for event in events:
        if event.type == EV_EFI_ACTION:
            yield failure(_ACTIONS.get((event.data or b"").rstrip(b"\0"), "pcr-7"), "an action was measured into PCR 7")


def dbx_failures(events: Events, reference: ReferenceValues) -> Iterator[Failure]:
    """Row 21: what dbx must hold, whatever the rules. Where there is a minimum, this is what judges a dbx that grew."""
    if not reference.dbx_minimum:
        return
    wanted = {(CERT_SHA256, bytes.fromhex(text)) for text in reference.dbx_minimum}
    try:
        missing = wanted - signatures(_variables(events.get(7, ())).get("dbx", b""))
    except ValueError as error:
        yield failure("dbx", str(error))
    else:
        if missing:
            yield failure("dbx", f"dbx lacks {len(missing)} of {len(wanted)} revocations")


def _variables(events: Sequence[VerifiedEvent]) -> dict[str, bytes]:
    found = (_variable(event) for event in events if event.type == EV_EFI_VARIABLE_DRIVER_CONFIG)
    return {variable.name: variable.value for variable in found if variable}


def _variable(event: VerifiedEvent) -> Variable | None:
    """A record whose data is not what was measured is row 19's business, and says nothing here."""
    try:
        variable = parse_variable_event(event.data) if event.data else None
    except ValueError:
        return None
    return variable if variable and variable.is_standard else None


def difference(pcr: int, events: Sequence[VerifiedEvent], reference: ReferenceValues) -> Failure | None:
    """Return the failure of the first event of `pcr` that is not the reference's; None if only dbx grew.

    Called for a PCR whose value differs. Without the reference's events the value alone speaks.
    """
    wanted = reference.events.get(str(pcr))
    if wanted is None or (not wanted and not events):
        return failure(_CODES.get(pcr, "pcr"), f"PCR {pcr} is not the reference's")
    grown = False
    for place in range(max(len(events), len(wanted))):
        event = events[place] if place < len(events) else None
        want = wanted[place] if place < len(wanted) else None
        if event and want and event.digest.hex() == want.sha256:
            continue
        if not _is_grown_dbx(event, want, reference):
            name = want.name if want else "nothing more"
            return failure(_code(pcr, event, want), f"PCR {pcr}[{place}]: {name} expected")
        grown = True
    # The events fit, and the value does not: the reference contradicts itself, and its value counts.
    return None if grown else failure(_CODES.get(pcr, "pcr"), f"PCR {pcr} is not the reference's")


def value_failures(values: Mapping[int, bytes], signed: Sequence[int], reference: ReferenceValues) -> Iterator[Failure]:
    """Compare what was quoted, where no log explains it: what the log hides does not hide the image."""
    for index, wanted in reference.expected().items():
        if index in signed and index in values and values[index] != wanted:
            yield failure(_CODES.get(index, "pcr"), f"PCR {index} is not the reference's")


def _is_grown_dbx(event: VerifiedEvent | None, want: Measurement | None, reference: ReferenceValues) -> bool:
    """With a minimum for dbx, its own check (row 21) judges what is in it; it must still be dbx, and in its place."""
    variable = _variable(event) if event and event.type == EV_EFI_VARIABLE_DRIVER_CONFIG else None
    expected = bool(want and want.name == "variable dbx" and reference.dbx_minimum)
    return expected and variable is not None and variable.name == "dbx"


def _code(pcr: int, event: VerifiedEvent | None, want: Measurement | None) -> str:
    if pcr == 7:
        return _secure_boot_code(event, want)
    if pcr == 11 and want and want.name == _COMMAND_LINE:
        return "command-line"
    return _CODES.get(pcr, "pcr")


def _secure_boot_code(event: VerifiedEvent | None, want: Measurement | None) -> str:
    if event is not None and event.type == EV_EFI_ACTION:
        return _ACTIONS.get((event.data or b"").rstrip(b"\0"), "pcr-7")
    name = want.name if want else ""
    special = {"variable SecureBoot": "secure-boot-off", "variable dbx": "dbx", "authority db": "authority"}
    keys = {f"variable {key}": "secure-boot-keys" for key in _KEYS}
    return (special | keys).get(name, "pcr-7")


def microcode_of(events: Events) -> Microcode | None:
    """Return the one measurement of PCR 15 (row 27); None if there is none, or more, or of another form."""
    measured = events.get(MICROCODE_PCR, ())
    try:
        return parse_microcode(measured[0].data or b"") if len(measured) == 1 else None
    except ValueError:
        return None


def microcode_failures(events: Events, policy: Policy) -> Iterator[Failure]:
    """Row 27. Where PCR 15 is quoted the processor must have been measured, whether or not the policy has minima."""
    if MICROCODE_PCR not in events:
        return
    seen = microcode_of(events)
    if seen is None:
        measured = len(events[MICROCODE_PCR])
        yield failure("microcode", f"{measured} microcode measurements, or one that can not be read")
    elif policy.microcode is not None and not is_recent(seen, policy.microcode):
        least = policy.microcode.get(seen.name)
        text = f"processor {seen.name} has revision 0x{seen.revision:x}, the policy wants "
        yield failure("microcode", text + ("another processor" if least is None else f"0x{least:x}"))
