"""A running machine to files and back, so that a test starts in about a second from a booted box.

Saved: memory and devices (QEMU's migration stream, in which the TPM's volatile and permanent state travel too), disk
overlay, firmware variables, TPM folder. A restored machine works on its own copies of all of it; only the memory file
and the raw image are shared, read-only. Save without a card in the reader: a card process does not travel.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from sdbox.qemu.deadline import Overdue
from sdbox.qemu.machine import Machine
from sdbox.qemu.qmp import QmpFailed
from sdbox.qemu.spec import MachineSpec, Nic
from sdbox.qemu.tpm import copy_state

SAVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SavedMachine:
    """A machine at rest in `folder`; `spec` is what it was started with: same devices, memory and UUID at restore."""

    folder: Path
    spec: MachineSpec

    @property
    def memory(self) -> Path:
        """The migration stream."""
        return self.folder / "memory"


def save(machine: Machine, folder: Path) -> SavedMachine:
    """Stop `machine` and save it into the new `folder`; the machine has ended afterwards. QmpFailed if QEMU can't."""
    folder.mkdir(parents=True)
    saved = SavedMachine(folder, machine.spec)
    machine.qmp("stop")
    machine.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
    # QEMU sees only its work folder: the stream is written there and then moved.
    stream = machine.spec.work / "memory"
    machine.qmp("migrate", uri=f"file:{stream}")
    _wait_migrated(machine)
    machine.stop()
    shutil.move(stream, saved.memory)
    for own in (machine.spec.overlay, machine.spec.variables, machine.spec.firmware_code):
        if own.exists():
            shutil.copy(own, folder)
    if machine.spec.tpm is not None:
        copy_state(machine.spec.tpm, folder / "tpm")
    return saved


def restore(saved: SavedMachine, work: Path, nic: Nic | None) -> Machine:
    """Return a machine (not yet started) that goes on where the saved one stopped, on its own copies in new `work`.

    `nic` replaces the saved one's tap; its MAC must be the same, because the guest already knows it.
    """
    work.mkdir(parents=True)
    tpm = saved.spec.tpm
    if tpm is not None:
        tpm = copy_state(dataclasses.replace(tpm, folder=saved.folder / "tpm"), work / "tpm")
    spec = dataclasses.replace(saved.spec, work=work, nic=nic, tpm=tpm)
    for own in (spec.overlay, spec.variables, spec.firmware_code):
        if (saved.folder / own.name).exists():
            shutil.copy(saved.folder / own.name, own)
    return Machine(spec, memory=saved.memory)


def _wait_migrated(machine: Machine) -> None:
    end = time.monotonic() + SAVE_SECONDS
    while True:
        reply = machine.qmp("query-migrate")
        status = reply.get("status") if isinstance(reply, dict) else None
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise QmpFailed(f"the machine can not be saved: {reply}")
        if time.monotonic() > end:
            raise Overdue(f"waited {SAVE_SECONDS:g} s for the machine to be saved; migration is {status}")
        time.sleep(0.01)
