"""Records evidence from real boots: `python -m sdbox.bench.corpus FOLDER [CASE ...]`, as root, about a minute a case.

Each case boots the bench's image with one thing changed and keeps what the box then presents, as `FOLDER/CASE.json`
(EVIDENCE.json of `sdbox verify`). What can be made of a good boot without another boot is made by
tests/service/test_corpus_tpm.py, with a software TPM.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sdbox.bench.lab import Lab
from sdbox.bench.stand import BOX, MICROCODE, development_tpm, machine_spec
from sdbox.host.places import cache_folder
from sdbox.host.tools import ensure_tools_tree
from sdbox.image.build import BuildRequest, BuiltImage, build_image
from sdbox.image.ovmf import FIRMWARE, VARIABLES, EnrolledKeys, write_firmware
from sdbox.image.request import SigningKey, development_keys
from sdbox.image.variants import signed_with, with_command_line
from sdbox.qemu.deadline import wait_for
from sdbox.qemu.machine import Machine
from sdbox.qemu.spec import MachineSpec, Reader
from sdbox.qemu.tpm import TpmState, copy_state

SELECTION = (0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 15)
BOOT_SECONDS = 340.0
VERSION = 2  # of the image: the bench's own, version 1, is the older one


@dataclasses.dataclass(frozen=True, slots=True)
class Stand:
    """One case's surroundings: the lab, the image, an own TPM, a work folder and where evidence arrives."""

    lab: Lab
    image: BuiltImage
    tpm: TpmState
    work: Path
    seen: Path

    def spec(self, image: BuiltImage) -> MachineSpec:
        """Return the bench's box with `image` and this stand's TPM."""
        return dataclasses.replace(machine_spec(image, self.lab, self.work / "m", self.tpm), reader=Reader.NONE)

    def wait(self, count: int) -> Path:
        """Return the `count`-th evidence, once it is there."""
        path = self.seen / f"{count}.json"
        wait_for(path.exists, f"evidence {count} of the box", BOOT_SECONDS, interval=0.25)
        return path


def good(stand: Stand) -> Path:
    """The image as it is."""
    return boot(stand, stand.image)


def power_cut(stand: Stand) -> Path:
    """Boot, cut the power without a word to the TPM, boot again: the clock is not safe."""
    with Machine(stand.spec(stand.image)) as machine:
        stand.wait(1)
        machine.power_cut()
        first = len(list(stand.seen.glob("*.json")))
        machine.start()
        return stand.wait(first + 1)


def secure_boot_off(stand: Stand) -> Path:
    """Firmware variables without any key: setup mode, Secure Boot off."""
    variables = stand.work / "plain-vars.fd"
    shutil.copyfile(ensure_tools_tree() / FIRMWARE / VARIABLES, variables)
    return boot(stand, dataclasses.replace(stand.image, ovmf_vars=variables))


def foreign_key(stand: Stand) -> Path:
    """The same image signed by somebody else, in firmware that trusts somebody else."""
    folder = development_keys()
    foreign = SigningKey.named(folder, "box-debug-db")
    disk = signed_with(stand.image, foreign, stand.work / "foreign.raw")
    keys = EnrolledKeys(folder / "PK.crt", folder / "KEK.crt", foreign.certificate)
    variables = stand.work / "foreign-vars.fd"
    write_firmware(keys, stand.work / "code.fd", variables)
    return boot(stand, dataclasses.replace(stand.image, disk=disk, ovmf_vars=variables))


def command_line(stand: Stand) -> Path:
    """Our signature, our kernel, one word more on the command line."""
    key = SigningKey.named(development_keys(), "db")
    disk = with_command_line(stand.image, key, stand.work / "line.raw", extra=("audit=0",))
    return boot(stand, dataclasses.replace(stand.image, disk=disk))


def older_image(stand: Stand) -> Path:
    """The image of the version before, signed by us."""
    return boot(stand, build_image(BuildRequest(output=cache_folder() / "image-production")))


def microcode_old(stand: Stand) -> Path:
    """The image as it is, on a processor whose microcode is one revision behind the bench's."""
    with Machine(dataclasses.replace(stand.spec(stand.image), microcode=MICROCODE - 1)):
        return stand.wait(1)


CASES: dict[str, Callable[[Stand], Path]] = {
    "good": good,
    "power-cut": power_cut,
    "secure-boot-off": secure_boot_off,
    "foreign-key": foreign_key,
    "command-line": command_line,
    "older-image": older_image,
    "microcode-old": microcode_old,
}


def boot(stand: Stand, image: BuiltImage) -> Path:
    """Power on once; returns the first evidence."""
    with Machine(stand.spec(image)):
        return stand.wait(1)


@contextmanager
def recording(image: BuiltImage) -> Iterator[Stand]:
    """A lab whose gateway asks for a quote over SELECTION and keeps what it gets."""
    with tempfile.TemporaryDirectory(prefix="sdbox-corpus-") as name:
        work = Path(name)
        seen = work / "seen"
        seen.mkdir()
        with Lab(_asking_for_all(image, work)) as lab:
            lab.gateway.start(dataclasses.replace(lab.gateway.settings, recorded=seen))
            tpm = development_tpm()
            lab.gateway.enrol(BOX, tpm)
            yield Stand(lab, image, copy_state(tpm, work / "tpm"), work, seen)


def _asking_for_all(image: BuiltImage, work: Path) -> Path:
    reference = msgspec.json.decode(image.reference.read_bytes())
    known = reference["pcrs"]["sha256"]
    reference["pcrs"]["sha256"] = {str(index): known.get(str(index), "00" * 32) for index in SELECTION}
    reference["pcr_selection"] = SELECTION
    reference["advisory"] = ()
    path = work / "reference.json"
    path.write_bytes(msgspec.json.encode(reference))
    return path


def main(arguments: list[str]) -> None:
    """Record the cases named, or all."""
    output = Path(arguments[0])
    output.mkdir(parents=True, exist_ok=True)
    image = build_image(BuildRequest(output=cache_folder() / "image-corpus", image_version=VERSION))
    shutil.copyfile(image.reference, output / "reference.json")
    for name in arguments[1:] or CASES:
        with recording(image) as stand:
            shutil.copyfile(CASES[name](stand), output / f"{name}.json")
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
