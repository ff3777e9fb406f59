"""A unified kernel image: its sections, and what systemd-stub 257 measures of them into PCR 11.

UAPI.5 (UKI specification), "UKI TPM PCR measurements"; systemd-stub(7), systemd-pcrphase.service(8). Computed here from
the PE file, because ukify's own prediction has been wrong (systemd#35820).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from sdbox.boot.measurement import Measurement
from sdbox.boot.pe import PeError, PeImage

# The order is part of the specification; `.pcrsig` cannot be measured, as it signs the result.
MEASURED = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".hwids",
)  # fmt: skip
_CHOSEN_AT_BOOT = (".profile", ".dtbauto", ".efifw")  # what is measured of these depends on the machine or the menu
_ROOT_HASH = re.compile(r"(?:^|[\s.])roothash=([0-9a-f]{64})(?=\s|$)")


def uki_sections(image: PeImage) -> dict[str, bytes]:
    """Return the sections that get measured, in measuring order, as they are in memory.

    PeError if the kernel is missing, a section comes twice, or the UKI leaves a choice to boot time.
    """
    named = [section for section in image.sections if section.name in (*MEASURED, *_CHOSEN_AT_BOOT)]
    names = [section.name for section in named]
    if len(set(names)) != len(names) or ".linux" not in names or set(names) & set(_CHOSEN_AT_BOOT):
        raise PeError("not a UKI with exactly one kernel and nothing to choose at boot: " + " ".join(names))
    found = {section.name: image.content(section) for section in named if section.virtual_size}
    return {name: found[name] for name in MEASURED if name in found}


def measure_uki(sections: dict[str, bytes], phases: Iterable[str] = ()) -> list[Measurement]:
    """Return the measurements into PCR 11: each section's name with its NUL, then its data; then the boot phases."""
    measured = []
    for name, content in sections.items():
        measured.append(Measurement(f"name {name}", hashlib.sha256(name.encode() + b"\0").hexdigest()))
        measured.append(Measurement(f"section {name}", hashlib.sha256(content).hexdigest()))
    phase_events = [Measurement(f"phase {phase}", hashlib.sha256(phase.encode()).hexdigest()) for phase in phases]
    return measured + phase_events


def root_hash_of(sections: dict[str, bytes]) -> str:
    """Return the dm-verity root hash in the command line; PeError unless there is exactly one."""
    hashes = _ROOT_HASH.findall(sections.get(".cmdline", b"").rstrip(b"\0").decode("ascii", "replace"))
    if len(hashes) != 1:
        raise PeError(f"{len(hashes)} verity root hashes in the UKI's command line, must be one")
    return str(hashes[0])
