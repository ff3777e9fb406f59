"""What a TPM alone can be made to say about a good boot's log: `python -m tests.service.tpm_cases FOLDER`.

Reads FOLDER/good.json and writes the cases of tests/vectors/evidence/cases.json that need no boot beside it.
"""

from __future__ import annotations

import shutil
import struct
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import tpm2_pytss as tss

from sdbox.attestation.evidence import Request, collect
from sdbox.attestation.evidencefile import EvidenceFile, read_evidence, write_evidence
from sdbox.attestation.tpm import open_tpm
from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.eventtypes import EV_EFI_PLATFORM_FIRMWARE_BLOB, EV_IPL
from sdbox.boot.pcr import Bank
from sdbox.boot.reference import LEAVE_INITRD
from tests.service.swtpm_fixture import manufacture, running_swtpm

MOVED = {4: 16, 7: 23}
PHASE_PCR = 11
# Of OVMF_CODE_4M.secboot.strictnx.fd, Debian's ovmf 2025.02-8+deb13u1; the good boot's is OVMF_CODE_4M.secboot.fd.
OTHER_VOLUME = bytes.fromhex("143be679e8fd06d5ea31f75a939777342eb3757dbbc7f0c84849f10c37d28183")


def record(folder: Path) -> None:
    """Write the cases into `folder`."""
    good = read_evidence((folder / "good.json").read_bytes())
    with tempfile.TemporaryDirectory() as name:
        state, earlier, third = (Path(name) / folder for folder in ("tpm", "earlier", "third"))
        manufacture(state)
        shutil.copytree(state, earlier)
        shutil.copytree(state, third)
        _write(folder, "other-tpm", _boot(state, good))
        _write(folder, "tpm-rebooted", _boot(state, good))
        _write(folder, "cloned-tpm", _boot(earlier, good))
        _write(folder, "relabelled", _relabelled(state, good))
        before, after = _suspended(third, good)
        _write(folder, "before-suspend", before)
        _write(folder, "suspended", after)
        _write(folder, "phase-too-early", _boot(state, before_the_phase(good)))
        _write(folder, "other-firmware", _boot(state, other_firmware(good)))


def _write(folder: Path, name: str, file: EvidenceFile) -> None:
    (folder / f"{name}.json").write_bytes(write_evidence(file))


def _boot(state: Path, good: EvidenceFile) -> EvidenceFile:
    """Power the TPM on, feed it with the good log, quote."""
    with running_swtpm(state) as tcti:
        measure(tcti, good, {})
        return _quote(tcti, good, tuple(sorted(good.evidence.pcrs)))


def before_the_phase(good: EvidenceFile) -> EvidenceFile:
    """The same boot up to the initrd's last act, the log's last record: all that a program in there can show."""
    log = good.evidence.event_log
    events = parse_event_log(log).events
    early = log[: log.rindex(struct.pack("<II", PHASE_PCR, EV_IPL))]
    if parse_event_log(early).events != events[:-1] or events[-1].data != LEAVE_INITRD.encode():
        raise ValueError("the log of good.json does not end with the initrd's phase")
    return replace(good, evidence=replace(good.evidence, event_log=early))


def other_firmware(good: EvidenceFile) -> EvidenceFile:
    """The same boot from another build of OVMF: its main volume (DXE) has another digest."""
    log = good.evidence.event_log
    blobs = [event for event in parse_event_log(log).events if event.type == EV_EFI_PLATFORM_FIRMWARE_BLOB]
    changed = log.replace(blobs[-1].digests[Bank.SHA256], OTHER_VOLUME)
    return replace(good, evidence=replace(good.evidence, event_log=changed))


def _relabelled(state: Path, good: EvidenceFile) -> EvidenceFile:
    """Measure into 16 and 23, which any program can reset and extend, what belongs into 4 and 7; show it as theirs."""
    with running_swtpm(state) as tcti:
        measure(tcti, good, MOVED)
        file = _quote(tcti, good, relabelled(good.evidence.pcrs))
    back = {moved: index for index, moved in MOVED.items()}
    shown = {back.get(index, index): value for index, value in file.evidence.pcrs.items()}
    return replace(file, evidence=replace(file.evidence, pcrs=shown))


def relabelled(pcrs: Iterable[int]) -> tuple[int, ...]:
    """Return what a liar quotes who was asked for `pcrs`."""
    return tuple(sorted(MOVED.get(index, index) for index in pcrs))


def _suspended(state: Path, good: EvidenceFile) -> tuple[EvidenceFile, EvidenceFile]:
    """Boot, suspend to memory, wake up (TPM 2.0 part 1, 12.2.4): the same PCRs, restartCount one more."""
    pcrs = tuple(sorted(good.evidence.pcrs))
    with running_swtpm(state) as tcti:
        measure(tcti, good, {})
        before = _quote(tcti, good, pcrs)
        with tss.ESAPI(tcti) as esapi:
            esapi.shutdown(tss.TPM2_SU.STATE)
    with running_swtpm(state, resume=True) as tcti:
        return before, _quote(tcti, good, pcrs)


def measure(tcti: str, good: EvidenceFile, moved: dict[int, int]) -> None:
    """Extend a TPM with what the log of `good` says, into the PCRs of `moved` instead where one is named."""
    with tss.ESAPI(tcti) as esapi:
        for event in parse_event_log(good.evidence.event_log).events:
            if event.extends:
                union = tss.TPMU_HA(sha256=event.digests[Bank.SHA256])
                digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=union)
                esapi.pcr_extend(tss.ESYS_TR(moved.get(event.pcr, event.pcr)), tss.TPML_DIGEST_VALUES([digest]))


def _quote(tcti: str, good: EvidenceFile, pcrs: tuple[int, ...]) -> EvidenceFile:
    with tempfile.NamedTemporaryFile() as log, open_tpm(tcti) as tpm:
        Path(log.name).write_bytes(good.evidence.event_log)
        request = Request(good.nonce, good.exporter, pcrs)
        return replace(good, evidence=collect(tpm, request, good.box_id, Path(log.name)))


if __name__ == "__main__":
    record(Path(sys.argv[1]))
