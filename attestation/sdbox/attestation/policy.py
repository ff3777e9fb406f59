"""What the centre demands of a box beyond the reference values of its image: policy.json, and the firmware profiles."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Annotated

import msgspec

from sdbox.boot.firmware import ADVISORY, PINNED, FirmwareError, FirmwareProfile, check_profile
from sdbox.boot.microcode import MICROCODE_PCR, Microcode
from sdbox.boot.reference import ReferenceValues

_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}$")]
ProcessorName = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}$")]


class PolicyFormatError(Exception):
    """The file is not a policy.json."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of policy.json. What is None is not asked for; what is there has no exceptions.

    `tpm_firmware`: TPMS_ATTEST.firmwareVersion, 16 hex digits. `microcode`: least revision by processor signature
    (CPUID leaf 1, EAX; 8 hex digits): a processor that is not listed is refused, as is a box that measured none.
    """

    minimum_image_version: int = 0
    revoked_images: tuple[_Hash, ...] = ()
    tpm_firmware: tuple[_Version, ...] | None = None
    microcode: dict[ProcessorName, int] | None = None
    firmware: tuple[FirmwareProfile, ...] = ()


NO_POLICY = Policy()


def read_policy(data: bytes) -> Policy:
    """Parse policy.json; PolicyFormatError, naming the field, if it is malformed."""
    try:
        policy = msgspec.json.decode(data, type=Policy)
        for profile in policy.firmware:
            check_profile(profile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, FirmwareError) as error:
        raise PolicyFormatError(f"not a policy.json: {error}") from error
    return policy


def is_recent(microcode: Microcode | None, least: Mapping[str, int]) -> bool:
    """Return whether the revision is at least that of its processor in `least`; no for one that is not listed."""
    return microcode is not None and microcode.revision >= least.get(microcode.name, sys.maxsize)


def selection(reference: ReferenceValues, policy: Policy) -> tuple[int, ...]:
    """Return the PCRs that a quote must be over, ascending."""
    firmware = {*PINNED, *ADVISORY} if policy.firmware else set[int]()
    microcode = {MICROCODE_PCR} if policy.microcode is not None else set[int]()
    return tuple(sorted({*reference.pcr_selection} | firmware | microcode))


def digest(reference: ReferenceValues, policy: Policy) -> str:
    """Return the SHA-256 (hex) that names exactly these rules in a result (checklist 31)."""
    both = msgspec.json.encode([reference, policy], order="deterministic")
    return hashlib.sha256(both).hexdigest()
