"""Box side: gather the evidence for one nonce on one channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sdbox.attestation.tpm import Tpm
from sdbox.protocol.contexts import qualifying_data
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId, Evidence

EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")


@dataclass(frozen=True, slots=True)
class Request:
    """What the gateway asked for, on which channel."""

    nonce: bytes = field(repr=False)  # 32
    exporter: bytes = field(repr=False)  # 32
    pcrs: tuple[int, ...]


def collect(tpm: Tpm, request: Request, box_id: BoxId, event_log: Path = EVENT_LOG) -> Evidence:
    """Quote `request.pcrs` bound to nonce, channel, box and event log; Refusal(BOX_TPM) if TPM or log fail."""
    try:
        log = event_log.read_bytes()
    except OSError as error:
        raise Refusal(Reason.BOX_TPM, f"no event log: {error.strerror}") from error
    qualifying = qualifying_data(request.nonce, request.exporter, box_id.bytes, log)
    attest, signature = tpm.quote(qualifying, request.pcrs)
    return Evidence(attest, signature, tpm.ak_public(), log, tpm.read_pcrs(request.pcrs))
