"""A lab whose gateway keeps what its box presents: what evidence is recorded with, and firmware is learnt from."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdbox.bench.changed import Outcome, power_on
from sdbox.bench.changes import CHANGES, Change
from sdbox.bench.lab import Lab
from sdbox.bench.stand import BOX, development_tpm
from sdbox.boot.firmware import PINNED, FirmwareProfile, write_profile
from sdbox.host.workfolder import work_prefix
from sdbox.image.request import BuiltImage


class Recorder:
    """The box of the bench, powered on as often as wanted. `kept` gets logs, and its screen each time."""

    def __init__(self, lab: Lab, image: BuiltImage, work: Path, kept: Path) -> None:
        self._lab, self._image, self._work, self._kept = lab, image, work, kept
        self._seen = work / "seen"
        self._seen.mkdir()

    def expect(self, firmware: Path, policy: Path | None = None) -> None:
        """Start the gateway with this firmware profile and policy: with a profile PCRs 0 to 3 are quoted too."""
        settings = dataclasses.replace(self._lab.gateway.settings, recorded=self._seen, policy=policy)
        self._lab.gateway.start(dataclasses.replace(settings, firmware=(firmware,)))

    def record(self, name: str, change: Change, output: Path) -> Outcome:
        """Boot the changed box; keep its newest evidence as `output`, where it got as far as that."""
        for earlier in self._seen.glob("*.json"):
            earlier.unlink()
        outcome = power_on(self._lab, self._image, change, self._work / name, self._kept / name)
        found = sorted(self._seen.glob("*.json"), key=lambda path: int(path.stem))
        if found:
            shutil.copyfile(found[-1], output)
        return outcome

    def record_unknown(self, output: Path) -> Outcome:
        """Boot the box as it is before a gateway that knows its firmware from nowhere; keep the evidence."""
        nothing = self._work / "unknown.json"
        nothing.write_bytes(write_profile(FirmwareProfile("unknown", {str(index): "00" * 32 for index in PINNED})))
        self.expect(nothing)
        return self.record("unknown", CHANGES["good"], output)


@contextmanager
def recording(image: BuiltImage, kept: Path) -> Iterator[Recorder]:
    """A lab without bubbles, that expects `image`, in which the box of the bench is enrolled."""
    with (
        tempfile.TemporaryDirectory(prefix=work_prefix("record")) as name,
        Lab(image.reference, bubbles=(), keep=kept) as lab,
    ):
        lab.gateway.enrol(BOX, development_tpm())
        yield Recorder(lab, image, Path(name), kept)
