"""Which events a PCR may hold, in which order: one state table per PCR, and what is not listed is refused.

PC Client Platform Firmware Profile 1.06, 3.3.4 (what goes where) and 10.4.1 (types). The tables say what an honest boot
of a box does, not all that the profile allows: option ROMs and drivers yes, boot attempts that failed no.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from sdbox.boot import eventtypes as t
from sdbox.boot.replay import VerifiedEvent

RULES: Final = 1  # of ReferenceValues.rules: raised when a table changes its meaning


class State(StrEnum):
    """Where a PCR stands. START: nothing measured yet; READY: its separator was seen."""

    START = "start"
    CALLED = "called"
    READY = "ready"
    STARTED = "started"
    LEAVING = "leaving"
    LEFT = "left"


Table = dict[tuple[State, int], State]

_CODE = (
    t.EV_S_CRTM_CONTENTS,
    t.EV_S_CRTM_VERSION,
    t.EV_POST_CODE,
    t.EV_POST_CODE2,
    t.EV_NONHOST_CODE,
    t.EV_EFI_HCRTM_EVENT,
    t.EV_EFI_PLATFORM_FIRMWARE_BLOB,
    t.EV_EFI_PLATFORM_FIRMWARE_BLOB2,
    t.EV_EFI_BOOT_SERVICES_DRIVER,
    t.EV_EFI_RUNTIME_SERVICES_DRIVER,
)
_CONFIGURATION = (
    t.EV_CPU_MICROCODE,
    t.EV_PLATFORM_CONFIG_FLAGS,
    t.EV_TABLE_OF_DEVICES,
    t.EV_NONHOST_CONFIG,
    t.EV_EVENT_TAG,
    t.EV_EFI_VARIABLE_DRIVER_CONFIG,
    t.EV_EFI_VARIABLE_BOOT,
    t.EV_EFI_VARIABLE_BOOT2,
    t.EV_EFI_HANDOFF_TABLES,
    t.EV_EFI_HANDOFF_TABLES2,
)
_PARTITIONS = (t.EV_EFI_GPT_EVENT, t.EV_EFI_GPT_EVENT2)


def _table(before: Sequence[int], after: Sequence[int] = ()) -> Table:
    """`before` the separator, `after` it; one separator."""
    rows = {(State.START, kind): State.START for kind in before} | {(State.READY, kind): State.READY for kind in after}
    return rows | {(State.START, t.EV_SEPARATOR): State.READY}


_BOOT: Table = {
    (State.START, t.EV_EFI_ACTION): State.CALLED,
    (State.CALLED, t.EV_SEPARATOR): State.READY,
    (State.READY, t.EV_EFI_BOOT_SERVICES_APPLICATION): State.STARTED,
    (State.STARTED, t.EV_EFI_BOOT_SERVICES_APPLICATION): State.STARTED,
}
_BOOT_DATA: Table = _table(_PARTITIONS, _PARTITIONS) | {
    (State.READY, t.EV_EFI_ACTION): State.LEAVING,
    (State.LEAVING, t.EV_EFI_ACTION): State.LEFT,
}
_SECURE_BOOT: Table = {
    (State.START, t.EV_EFI_VARIABLE_DRIVER_CONFIG): State.START,
    (State.START, t.EV_EFI_ACTION): State.START,  # "UEFI Debug Mode", "DMA Protection Disabled": row 21 judges them
    (State.START, t.EV_SEPARATOR): State.READY,
    (State.READY, t.EV_EFI_VARIABLE_AUTHORITY): State.READY,
}
_STUB: Table = {(State.START, t.EV_IPL): State.START}
# The stub of systemd 257 logs add-ons with an initrd, microcode or a devicetree like that. None is expected:
# the value of PCR 12 says so, and names it better than a word about the order of events.
_PARAMETERS: Table = _STUB | {(State.START, t.EV_EVENT_TAG): State.START}
_MICROCODE: Table = {(State.START, t.EV_CPU_MICROCODE): State.READY}

TABLES: Final[dict[int, Table]] = {
    0: _table(_CODE),
    1: _table(_CONFIGURATION),
    2: _table(_CODE, (t.EV_EFI_BOOT_SERVICES_DRIVER,)),
    3: _table(_CONFIGURATION),
    4: _BOOT,
    5: _BOOT_DATA,
    6: _table((t.EV_COMPACT_HASH,)),
    7: _SECURE_BOOT,
    11: _STUB,
    12: _PARAMETERS,
    13: _STUB,
    15: _MICROCODE,
}
_SEPARATORS = (bytes(4), b"\xff" * 4)  # 3.3.2.2; 1 is an error, and then the boot went on all the same
_WITHOUT_SEPARATOR = frozenset({11, 12, 13, 15})  # the firmware has nothing to do with these


def misplaced(pcr: int, events: Sequence[VerifiedEvent]) -> str | None:
    """Return what is wrong with the order of a PCR's `events`, None if nothing is. A PCR without a table is wrong."""
    if pcr not in TABLES:
        return f"PCR {pcr} has no table of events"
    state = State.START
    for place, event in enumerate(events):
        following = TABLES[pcr].get((state, event.type))
        if following is None:
            return f"PCR {pcr}[{place}]: {t.name_of(event.type)} is not expected in state {state}"
        if event.type == t.EV_SEPARATOR and event.data is not None and event.data not in _SEPARATORS:
            return f"PCR {pcr}[{place}]: a separator of {event.data[:8].hex()}"
        state = following
    if pcr not in _WITHOUT_SEPARATOR and state in {State.START, State.CALLED}:
        return f"PCR {pcr} ends without its separator"
    return None
