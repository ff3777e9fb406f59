"""A box with a real software TPM whose PCRs hold what its event log says, and the reference values that fit."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import tpm2_pytss as tss

from sdbox.attestation.evidence import Request, collect
from sdbox.attestation.tpm import Tpm, open_tpm
from sdbox.protocol.values import BoxId, Evidence
from tests.service.swtpm_fixture import endorsement_pem, manufacture, running_swtpm

_T = TypeVar("_T")
PCRS = (4, 7, 11, 12, 13)


@dataclass
class Box:
    """A box: UUID and running TPM whose PCRs hold what its event log says. It is a `Prover`."""

    box_id: BoxId
    tcti: str
    event_log: Path
    ek_public: Path

    async def _run(self, work: Callable[[Tpm], _T]) -> _T:
        """The TPM takes one client at a time: it is opened for each call."""

        def opened() -> _T:
            with open_tpm(self.tcti) as tpm:
                return work(tpm)

        return await asyncio.to_thread(opened)

    async def ak_name(self) -> bytes:
        return await self._run(Tpm.ak_name)

    async def activate(self, id_object: bytes, encrypted_secret: bytes, ek_name: bytes) -> bytes:
        return await self._run(lambda tpm: tpm.activate(id_object, encrypted_secret, ek_name))

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        request = Request(nonce, exporter, tuple(pcrs))
        return await self._run(lambda tpm: collect(tpm, request, self.box_id, self.event_log))


@contextmanager
def running_box(folder: Path) -> Iterator[Box]:
    """Manufacture a TPM, boot it into three measurements, keep it running."""
    folder.mkdir()
    manufacture(folder / "tpm")
    with running_swtpm(folder / "tpm") as tcti:
        _measure(tcti)
        box = Box(BoxId(uuid.uuid4()), tcti, folder / "log", folder / "ek.pem")
        box.event_log.write_bytes(event_log())
        with open_tpm(tcti) as tpm:
            box.ek_public.write_text(endorsement_pem(tpm))
        yield box


def _digest(index: int) -> bytes:
    return sha256(b"measured into %d" % index).digest()


def _measure(tcti: str) -> None:
    with tss.ESAPI(tcti) as esapi:
        for index in PCRS:
            digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=_digest(index)))
            esapi.pcr_extend(tss.ESYS_TR(index), tss.TPML_DIGEST_VALUES([digest]))


def event_log() -> bytes:
    """A crypto-agile log (TCG PC Client Platform Firmware Profile, 10.4.5) with one event for each PCR."""
    spec = b"Spec ID Event03\0" + bytes([0, 0, 0, 0, 0, 2, 0, 2]) + (1).to_bytes(4, "little")
    spec += (0x0B).to_bytes(2, "little") + (32).to_bytes(2, "little") + b"\0"
    log = bytes(4) + (3).to_bytes(4, "little") + bytes(20) + len(spec).to_bytes(4, "little") + spec
    for index in PCRS:
        data = b"measured into %d" % index
        log += index.to_bytes(4, "little") + (0x0D).to_bytes(4, "little") + (1).to_bytes(4, "little")  # EV_IPL
        log += (0x0B).to_bytes(2, "little") + _digest(index) + len(data).to_bytes(4, "little") + data
    return log


def reference(**changed: str) -> str:
    """Return a reference.json for such a box, with some PCR values `changed`."""
    values = {str(index): sha256(bytes(32) + _digest(index)).hexdigest() for index in PCRS}
    return json.dumps({"pcr_selection": PCRS, "pcrs": {"sha256": values | changed}, "image_version": "1.0"})
