"""Records evidence from real boots: `python -m sdbox.bench.corpus FOLDER [CASE ...]`, as root, about a minute a case.

Each case boots the bench's box with one change (`changes.CHANGES`), keeps what the box then presents as
`FOLDER/CASE.json` (EVIDENCE.json of `sdbox verify`), and prints what the box's screen and the gateway's record said of
it, and whether that is what must come of the change. Exit 1 if it is not, for any case. The firmware profile of FOLDER
is used, and made from the good boot if there is none. What can be made of a good boot without another boot is made by
tests/service/tpm_cases.py, with a software TPM.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sdbox.bench.changed import Outcome
from sdbox.bench.changes import CHANGES, Change
from sdbox.bench.golden import FIRMWARE, POLICY, learn
from sdbox.bench.hands import Unexpected
from sdbox.bench.recorder import recording
from sdbox.host.places import cache_folder
from sdbox.image.build import BuildRequest, BuiltImage, build_image
from sdbox.qemu.child import ChildFailed
from sdbox.qemu.deadline import Overdue

VERSION = 2  # of the image: the bench's own, version 1, is the older one
OLDER = "older-image"
KEPT = Path("out") / "corpus"  # logs, and the box's screen in each case


def _older(newer: BuiltImage, _: Path) -> BuiltImage:
    """Return the image that was built before `newer`, in the same firmware."""
    older = build_image(BuildRequest(output=cache_folder() / "image-production"))
    return dataclasses.replace(newer, disk=older.disk)


def changes() -> dict[str, Change]:
    """Return all that is recorded: what the system tests boot, and the image before."""
    checks = ("22:pcr-4", "23:pcr-11")
    return CHANGES | {OLDER: Change("the image built before this one, signed by us", _older, checks, "box-image")}


def record(folder: Path, names: Sequence[str]) -> bool:
    """Record the cases named; returns whether each came out as it must."""
    image = build_image(BuildRequest(output=cache_folder() / "image-corpus", image_version=VERSION))
    shutil.copyfile(image.reference, folder / "reference.json")
    fits = True
    with recording(image, KEPT) as recorder:
        if not (folder / POLICY).exists() or not (folder / FIRMWARE).exists():
            recorder.record_unknown(folder / "good.json")
            learn(folder / "good.json", folder)
        recorder.expect(folder / FIRMWARE, folder / POLICY)
        for name in names:
            change = changes()[name]
            try:
                outcome = recorder.record(name, change, folder / f"{name}.json")
            except (Overdue, Unexpected, ChildFailed) as error:  # the others are still worth knowing
                outcome = Outcome(f"nothing: {error}"[:200], ())
            fits &= outcome.fits(change)
            print(row(name, outcome, passed=outcome.fits(change)), flush=True)
    return fits


def row(name: str, outcome: Outcome, *, passed: bool) -> str:
    """Return a line of the table: case, screen, record, verdict."""
    seen = f"{outcome.screen or 'let in':16} {' '.join(outcome.record) or '-':40}"
    return f"{name:16} {seen} {'PASS' if passed else 'FAIL'}"


def main(arguments: list[str]) -> None:
    """Record the cases named, or all."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    names = arguments[1:] or list(changes())
    sys.exit(0 if record(folder, names) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
