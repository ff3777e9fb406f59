"""What a bubble asks of a box beyond an accepted result: claims of the result, by name."""

from __future__ import annotations

import msgspec

from sdbox.attestation.policy import ProcessorName, is_recent
from sdbox.boot.reference import version_number
from sdbox.gateway.verifier import Judgement


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bubble's demands; what is not set is not asked for.

    `hardware`: the box was held against firmware profiles, and passed. `models`: names of the firmware profiles that
    may enter. `microcode`: least revision by processor signature (8 hex digits); one that is not listed stays out. The
    centre's policy holds for every box before that.
    """

    image_profile: str = ""
    minimum_image_version: int = 0
    hardware: bool = False
    models: tuple[str, ...] = ()
    microcode: dict[ProcessorName, int] | None = None

    def unmet(self, result: Judgement) -> str:
        """Return what the box lacks, in words for the record; empty if it has everything."""
        subject, model = result.subject, result.verdict.model
        number = version_number(subject.image_version)
        lacks = {
            "result": not result.verdict.accepted,
            "image_profile": bool(self.image_profile) and subject.profile != self.image_profile,
            "minimum_image_version": bool(self.minimum_image_version) and number < self.minimum_image_version,
            "hardware": self.hardware and not subject.hardware,
            "models": bool(self.models) and model not in self.models,
            "microcode": self.microcode is not None and not is_recent(result.verdict.microcode, self.microcode),
        }
        return " ".join(name for name, lacking in lacks.items() if lacking)
