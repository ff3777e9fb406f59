"""What an appraisal says: accepted, or every row of the verifier's checklist that failed."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.boot.microcode import Microcode
from sdbox.protocol.reasons import Reason

_MICROCODE = 27
_IMAGE = frozenset({21, 22, 23, 25, 26, _MICROCODE, 30})  # an honest proof of something that is not expected


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed check: its row in the verifier's checklist, a stable code (`codes.CODES`), words for the operator."""

    check: int
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Clock:
    """The TPM's clock as quoted (TPMS_CLOCK_INFO). `order` never goes back for one box (checklist 15)."""

    clock: int
    reset_count: int
    restart_count: int
    safe: bool

    @property
    def order(self) -> tuple[int, int, int]:
        return self.reset_count, self.restart_count, self.clock


@dataclass(frozen=True, slots=True)
class Seen:
    """What the verifier remembers of a box's last accepted evidence: its clock, and SHA-256 of its event log."""

    clock: Clock
    log_digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of `appraise`. Only that function makes one; no failure means accepted.

    `ak_name` is the key that was activated, empty if none was: then nobody knows whose TPM it is.
    `notes` are firmware quirks that were tolerated: they are recorded, never silent (checklist 24). `model` names the
    firmware profile that the box has, where there are any; `microcode` is what its initrd measured.
    """

    failures: tuple[Failure, ...]
    ak_name: bytes = b""
    seen: Seen | None = None
    notes: tuple[str, ...] = ()
    model: str = ""
    microcode: Microcode | None = None

    @property
    def accepted(self) -> bool:
        return not self.failures

    @property
    def clock(self) -> Clock | None:
        return self.seen.clock if self.seen else None

    @property
    def reason(self) -> Reason | None:
        """Return None if accepted, what is wrong if the proof is sound but of something else, else BOX_EVIDENCE."""
        if self.accepted:
            return None
        rows = {failure.check for failure in self.failures}
        if rows == {_MICROCODE}:
            return Reason.BOX_MICROCODE
        return Reason.BOX_IMAGE if rows <= _IMAGE else Reason.BOX_EVIDENCE
