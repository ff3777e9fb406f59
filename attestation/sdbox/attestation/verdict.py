"""What an appraisal says: accepted, or every row of the verifier's checklist that failed."""

from __future__ import annotations

from dataclasses import dataclass

from sdbox.protocol.reasons import Reason

PCR_MISMATCH = "pcr-mismatch"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed check: its row in the verifier's checklist, a stable code, and words for the operator."""

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
class Verdict:
    """The result of `appraise`. Only that function makes one; no failure means accepted."""

    failures: tuple[Failure, ...]
    ak_name: bytes = b""
    clock: Clock | None = None

    @property
    def accepted(self) -> bool:
        return not self.failures

    @property
    def reason(self) -> Reason | None:
        """Return None if accepted, BOX_IMAGE if only PCR values differ from the reference, else BOX_EVIDENCE."""
        if self.accepted:
            return None
        image = all(failure.code == PCR_MISMATCH for failure in self.failures)
        return Reason.BOX_IMAGE if image else Reason.BOX_EVIDENCE
