"""A firmware profile: what PCRs 0 and 2 of a hardware model hold, learnt from an enrolled golden machine and pinned."""

from __future__ import annotations

import msgspec

from sdbox.boot.eventlog import EventLogError, parse_event_log
from sdbox.boot.eventtypes import name_of
from sdbox.boot.measurement import Measurement
from sdbox.boot.pcr import Bank
from sdbox.boot.replay import ReplayError, VerifiedEventLog, verify

PINNED = (0, 2)  # firmware and option ROM code; 1, 3 and 5 hold settings and addresses, and are advisory
ADVISORY = (1, 3)


class FirmwareError(Exception):
    """The evidence or the file is no base for a firmware profile; the text says why."""


class FirmwareProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a profile file. PCR values are hex, by decimal index; `events` only explain them."""

    model: str
    pcrs: dict[str, str]
    events: dict[str, tuple[Measurement, ...]] = {}
    version: int = 1

    def expected(self) -> dict[int, bytes]:
        """Return index to 32 bytes."""
        return {int(index): bytes.fromhex(value) for index, value in self.pcrs.items()}


def learn_profile(model: str, event_log: bytes, quoted: dict[int, bytes]) -> FirmwareProfile:
    """Return the profile of the machine that quoted these values; FirmwareError unless the log gives each of them.

    Whoever calls this vouches for the machine: a profile makes the firmware it was learnt from the expected one.
    """
    missing = [index for index in PINNED if index not in quoted]
    if missing:
        raise FirmwareError(f"the evidence has no value of PCR {', '.join(map(str, missing))}")
    pinned = {index: quoted[index] for index in PINNED}
    try:
        verified = verify(parse_event_log(event_log), Bank.SHA256, pinned)
    except (EventLogError, ReplayError) as error:
        raise FirmwareError(str(error)) from error
    events = {str(index): _measurements(verified, index) for index in PINNED}
    return FirmwareProfile(model, {str(index): value.hex() for index, value in pinned.items()}, events)


def _measurements(log: VerifiedEventLog, pcr: int) -> tuple[Measurement, ...]:
    return tuple(Measurement(name_of(event.type), event.digest.hex()) for event in log.events if event.pcr == pcr)


def write_profile(profile: FirmwareProfile) -> bytes:
    """Return the file's contents; the same for equal profiles."""
    return msgspec.json.format(msgspec.json.encode(profile, order="deterministic"), indent=2) + b"\n"


def read_profile(data: bytes) -> FirmwareProfile:
    """Parse a profile file; FirmwareError if it is malformed or does not pin exactly the PCRs of PINNED."""
    try:
        profile = msgspec.json.decode(data, type=FirmwareProfile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FirmwareError(f"not a firmware profile: {error}") from error
    check_profile(profile)
    return profile


def check_profile(profile: FirmwareProfile) -> None:
    """FirmwareError unless it pins exactly the PCRs of PINNED: what it leaves out, anybody may change."""
    try:
        values = profile.expected()
    except ValueError as error:
        raise FirmwareError(f"not a firmware profile: {error}") from error
    if profile.version != 1 or set(values) != set(PINNED) or any(len(v) != Bank.SHA256.size for v in values.values()):
        raise FirmwareError("not a firmware profile: format, PCRs or the size of a value")
