"""The firmware profile of the bench's box, learnt from one boot of it: the golden machine is the bench's own.

OVMF comes from Debian's archive and changes with it. PCR 0 can not be computed from its file alone, as it measures its
first volume after its modules in there have run and written their variables; so it is learnt the way a centre learns
the firmware of a new model, once for each OVMF, and kept beside the images.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from sdbox.bench.recorder import recording
from sdbox.bench.stand import MEMORY
from sdbox.host.tools import ensure_tools_tree
from sdbox.image.cache import cached
from sdbox.image.request import BuiltImage
from sdbox.qemu.accel import TCG

MODEL, PROFILE = "OVMF", "firmware.json"
ONLY_UNKNOWN = ("25:firmware",)
SDBOX = Path(sys.executable).with_name("sdbox")


class NotGolden(RuntimeError):
    """The box whose firmware was to be learnt had something else wrong with it; the text says what."""


def golden_firmware(image: BuiltImage) -> Path:
    """Return the firmware profile of the bench's box, which starts `image` if it has to be learnt; NotGolden."""
    qemu = ensure_tools_tree() / "usr/bin/qemu-system-x86_64"
    parts = (image.ovmf_code, qemu, TCG.accel, TCG.cpu, str(MEMORY))
    return cached("golden", parts, partial(_learn, image)) / PROFILE


def _learn(image: BuiltImage, folder: Path) -> None:
    """Boot the enrolled box, all of which but its firmware is known, and have its profile made of what it proves."""
    evidence = folder / "evidence.json"
    with recording(image, folder) as recorder:
        outcome = recorder.record_unknown(evidence)
    if outcome.record != ONLY_UNKNOWN:
        raise NotGolden(f"the bench's box is no golden machine: {outcome}")
    argv = [str(SDBOX), "reference", "learn", str(evidence), "--model", MODEL, "--output", str(folder / PROFILE)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotGolden(f"nothing was learnt: {done.stderr.strip()}")
