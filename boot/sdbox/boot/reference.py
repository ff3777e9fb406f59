"""Reference values: what an honest box measures, computed when its image is built (RFC 9334, section 8.3)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from sdbox.boot.authenticode import authenticode_sha256
from sdbox.boot.grammar import RULES
from sdbox.boot.measurement import SEPARATOR, Measurement, measure, pcr_value
from sdbox.boot.microcode import MICROCODE_PCR
from sdbox.boot.pcr import PCR_COUNT, Bank
from sdbox.boot.pe import parse_pe
from sdbox.boot.secureboot import SecureBootKeys, load_keys, measure_secure_boot
from sdbox.boot.uki import measure_uki, root_hash_of, uki_sections

__all__ = [
    "BootPath", "ReferenceFormatError", "ReferenceValues", "SecureBootKeys", "compute_reference", "load_keys",
    "read_reference", "version_number", "write_reference",
]  # fmt: skip

FORMAT = 1
# Boot path, Secure Boot, image, and what is added from outside it: without a value of each, any image passes.
DECISIVE = (4, 7, 11, 12, 13)
# No value is expected of these: the boot's partition table and its end, ExitBootServices; processor and microcode.
ADVISORY = (5, MICROCODE_PCR)
LEAVE_INITRD = "leave-initrd"  # image/initrd/init.c, in the words of systemd-pcrphase(8)
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_CALLING = measure("boot attempt", b"Calling EFI Application from Boot Option")


class ReferenceFormatError(Exception):
    """The file is not a reference.json, or contradicts itself."""


class ReferenceValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of reference.json. PCR values are hex, keyed by bank name and decimal PCR index.

    `events` are the measurements the PCR values come from: they tell which of them differs. `advisory` PCRs are quoted
    and their events judged, but no value is expected of them. `rules` (grammar.RULES) asks for the event-by-event
    checks; 0 is a file that knows values only. `dbx_minimum` are hashes (hex) that dbx must hold; with it dbx may grow.
    """

    pcr_selection: tuple[int, ...]
    pcrs: dict[str, dict[str, str]]
    version: int = FORMAT
    image_version: str = ""
    profile: str = ""
    uki_sha256: str = ""
    root_hash: str = ""
    events: dict[str, tuple[Measurement, ...]] = {}
    advisory: tuple[int, ...] = ()
    rules: int = 0
    dbx_minimum: tuple[_Hash, ...] = ()

    def expected(self) -> dict[int, bytes]:
        """Return the SHA-256 bank as index to 32 bytes."""
        return {int(index): bytes.fromhex(value) for index, value in self.pcrs[Bank.SHA256].items()}


def version_number(text: str) -> int:
    """Return an image's version as a number; -1, older than any, for one that is none."""
    return int(text) if text.isascii() and text.isdigit() else -1


@dataclass(frozen=True, slots=True)
class BootPath:
    """How the firmware gets to the kernel. The defaults are ours: it starts the UKI itself, one phase.

    `inner_kernel`: the stub loads the kernel through the firmware, which measures it too (systemd#36076; Debian's
    257 does not with Secure Boot on, as seen in a booted machine's log).
    """

    loader: Path | None = None
    inner_kernel: bool = False
    phases: tuple[str, ...] = (LEAVE_INITRD,)


def compute_reference(
    uki: Path,
    keys: SecureBootKeys,
    *,
    image_version: str,
    profile: str,
    path: BootPath = BootPath(),
) -> ReferenceValues:
    """Return the reference values of a box that boots `uki` with `keys` enrolled; PeError if it is no UKI of ours."""
    data = uki.read_bytes()
    sections = uki_sections(parse_pe(data))
    events = {
        "4": tuple(_measure_images(data, sections, path)),
        "7": tuple(measure_secure_boot(keys)),
        "11": tuple(measure_uki(sections, path.phases)),
        "12": (),  # command line, credentials and add-ons from outside the UKI: none (systemd-stub(7))
        "13": (),  # system extensions: none
    }
    return ReferenceValues(
        pcr_selection=tuple(sorted([*map(int, events), *ADVISORY])),
        advisory=ADVISORY,
        rules=RULES,
        pcrs={Bank.SHA256.value: {index: pcr_value(measured).hex() for index, measured in events.items()}},
        image_version=image_version,
        profile=profile,
        uki_sha256=hashlib.sha256(data).hexdigest(),
        root_hash=root_hash_of(sections),
        events=events,
    )


def _measure_images(uki: bytes, sections: dict[str, bytes], path: BootPath) -> list[Measurement]:
    """PCR 4 (platform firmware profile, 3.3.4.5): one boot attempt, then every image that is started."""
    loader = [_image("loader", path.loader.read_bytes())] if path.loader else []
    kernel = [_image("inner kernel", sections[".linux"])] if path.inner_kernel else []
    return [_CALLING, SEPARATOR, *loader, _image("UKI", uki), *kernel]


def _image(name: str, data: bytes) -> Measurement:
    return Measurement(name, authenticode_sha256(data).hex())


def write_reference(reference: ReferenceValues, path: Path) -> None:
    """Write reference.json, indented, byte-identical for equal values."""
    text = msgspec.json.format(msgspec.json.encode(reference, order="deterministic"), indent=2)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_bytes(text + b"\n")
    partial.replace(path)


def read_reference(data: bytes) -> ReferenceValues:
    """Parse reference.json; ReferenceFormatError if it is malformed or contradicts itself."""
    try:
        reference = msgspec.json.decode(data, type=ReferenceValues)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ReferenceFormatError(f"not a reference.json: {error}") from error
    if reason := contradiction(reference):
        raise ReferenceFormatError(f"not a reference.json: {reason}")
    return reference


def contradiction(reference: ReferenceValues) -> str:
    """Return why no box can be held against these values, empty if one can: nothing is accepted by default."""
    try:
        values = reference.expected()
    except (KeyError, ValueError):
        return "no SHA-256 values, or one that is not hex"
    selection, known, events = reference.pcr_selection, {*values, *reference.advisory}, set(reference.events)
    is_fit = {
        "another format, or rules that are not known": reference.version == FORMAT and 0 <= reference.rules <= RULES,
        "the PCR selection is not, in order, what has a value or is advisory": list(selection) == sorted(known),
        "a PCR index out of range": known <= set(range(PCR_COUNT)),
        f"no value for one of PCRs {', '.join(map(str, DECISIVE))}": values.keys() >= set(DECISIVE),
        "a PCR value of another size": all(len(value) == Bank.SHA256.size for value in values.values()),
        "event rules without the events": not reference.rules or events >= set(map(str, DECISIVE)),
    }
    return next((text for text, fits in is_fit.items() if not fits), "")
