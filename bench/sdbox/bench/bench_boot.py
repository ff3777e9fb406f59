"""Measures the boot in processor seconds of the emulator, which neighbours stretch less than wall time: to "insert
card", and to an empty init of the same image, by turns.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from sdbox.bench.bench_way import EMPTY_INIT_RUNS, Row
from sdbox.bench.golden import golden_rules
from sdbox.bench.lab import Lab
from sdbox.bench.sight import classify
from sdbox.bench.stand import BOX, development_tpm, machine_spec, request_for
from sdbox.host.workfolder import work_prefix
from sdbox.image.build import BuiltImage, build_image
from sdbox.image.request import SigningKey, development_keys
from sdbox.image.variants import with_empty_init
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state

TURNS = 3
BOOT_SECONDS = 420.0
VARIANT = "sc-hsm-bio"  # any card with a reader: the production image


def measure_boot(output: Path) -> list[Row]:
    """Boot the box and the empty init by turns; the rows are of medians. `output` gets the consoles."""
    output.mkdir(parents=True, exist_ok=True)
    image = build_image(request_for(VARIANT))
    boots, roots, empties = [], [], []
    with tempfile.TemporaryDirectory(prefix=work_prefix("bench")) as name:
        work = Path(name)
        disk = with_empty_init(image, SigningKey.named(development_keys(), "db"), work / "empty.raw")
        for turn in range(TURNS):
            root, boot = boot_to_card(image, work / f"box{turn}", output / f"console{turn}.log")
            roots.append(root)
            boots.append(boot)
            empties.append(boot_empty(replace(image, disk=disk), work / f"empty{turn}"))
    what, beside = f"median of {TURNS}, processor seconds", "empty init"
    return [
        Row(f"boot to insert-card, {what}", statistics.median(boots), beside, statistics.median(empties), 2.5, 1.8),
        Row(f"boot to root file system, {what}", statistics.median(roots)),
    ]


def boot_to_card(image: BuiltImage, work: Path, console: Path) -> tuple[float, float]:
    """Return the processor seconds to the mounted root file system, and to "insert card" on the screen.

    The screen is looked at only once the agent says so: each look stops the machine.
    """
    tpm = development_tpm()
    with Lab(image.reference, golden_rules(image)) as lab:
        lab.gateway.enrol(BOX, tpm)
        with Machine(machine_spec(image, lab, work, copy_state(tpm, work.with_suffix(".tpm")))) as machine:
            machine.wait_console("sdbox-boot root", BOOT_SECONDS)
            root = machine.processor_seconds()
            machine.console.wait_state("insert-card", BOOT_SECONDS)
            machine.wait_pixels(lambda seen: classify(seen) == "insert-card", "insert-card", BOOT_SECONDS)
            boot = machine.processor_seconds()
            console.write_text(machine.console.text(), encoding="utf-8")
    return root, boot


def boot_empty(image: BuiltImage, work: Path) -> float:
    """Return the processor seconds to an init that does nothing: same firmware, kernel, initrd, network and TPM."""
    tpm = development_tpm()
    with (
        Lab(image.reference, golden_rules(image)) as lab,
        Machine(machine_spec(image, lab, work, copy_state(tpm, work.with_suffix(".tpm")))) as machine,
    ):
        machine.wait_console(EMPTY_INIT_RUNS, BOOT_SECONDS)
        return machine.processor_seconds()
