"""Firmware profile and policy of the bench's box, learnt from one boot of it: the golden machine is the bench's own.

OVMF comes from Debian's archive and changes with it. PCR 0 can not be computed from its file alone, as it measures its
first volume after its modules in there have run and written their variables; so it is learnt the way a centre learns
the firmware of a new model, once for each OVMF, and kept beside the images.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from sdbox.attestation.bootchecks import microcode_of
from sdbox.attestation.evidencefile import read_evidence
from sdbox.bench.lab_gateway import Rules
from sdbox.bench.recorder import recording
from sdbox.bench.stand import MEMORY, MICROCODE
from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.microcode import MICROCODE_PCR
from sdbox.boot.pcr import Bank
from sdbox.boot.replay import VerifiedEvent, verify
from sdbox.host.tools import ensure_tools_tree
from sdbox.image.cache import cached
from sdbox.image.request import BuiltImage
from sdbox.protocol.values import Evidence
from sdbox.qemu.accel import TCG

MODEL = "OVMF"
POLICY, FIRMWARE = "policy.json", "firmware.json"
ONLY_UNKNOWN = ("25:firmware",)
SDBOX = Path(sys.executable).with_name("sdbox")


class NotGolden(RuntimeError):
    """The box whose firmware was to be learnt had something else wrong with it; the text says what."""


def golden_rules(image: BuiltImage) -> Rules:
    """Return what the bench's box is held against beyond its image; starts `image` if that has to be learnt.

    NotGolden if there is more to say of the box then than that its firmware is not known yet.
    """
    qemu = ensure_tools_tree() / "usr/bin/qemu-system-x86_64"
    parts = (image.ovmf_code, qemu, TCG.accel, TCG.cpu, str(MEMORY), str(MICROCODE))
    folder = cached("golden", parts, partial(_learn_from, image))
    return Rules(folder / FIRMWARE, folder / POLICY)


def _learn_from(image: BuiltImage, folder: Path) -> None:
    evidence = folder / "evidence.json"
    with recording(image, folder) as recorder:
        outcome = recorder.record_unknown(evidence)
    if outcome.record != ONLY_UNKNOWN:
        raise NotGolden(f"the bench's box is no golden machine: {outcome}")
    learn(evidence, folder)


def learn(evidence: Path, folder: Path) -> None:
    """Write the firmware profile and the policy of a box, which whoever calls this vouches for; NotGolden."""
    argv = [str(SDBOX), "reference", "learn", str(evidence), "--model", MODEL, "--output", str(folder / FIRMWARE)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotGolden(f"nothing was learnt: {done.stderr.strip()}")
    good = read_evidence(evidence.read_bytes()).evidence
    seen = microcode_of({MICROCODE_PCR: _measured(good)})
    if seen is None:
        raise NotGolden("the good boot has no measurement of its microcode")
    (folder / POLICY).write_text(json.dumps({"microcode": {seen.name: seen.revision}}) + "\n")


def _measured(good: Evidence) -> list[VerifiedEvent]:
    pinned = {MICROCODE_PCR: good.pcrs[MICROCODE_PCR]}
    log = verify(parse_event_log(good.event_log), Bank.SHA256, pinned)
    return [event for event in log.events if event.pcr == MICROCODE_PCR]
