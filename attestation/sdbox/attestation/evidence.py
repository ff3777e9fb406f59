"""Box side: gather the evidence for one nonce on one channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sdbox.attestation.tpm import Tpm
from sdbox.boot.notes import with_notes
from sdbox.protocol.contexts import qualifying_data
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId, Evidence

EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
NOTES = Path("/run/sdbox-measured")  # of the initrd


@dataclass(frozen=True, slots=True)
class Request:
    """What the gateway asked for, on which channel."""

    nonce: bytes = field(repr=False)  # 32
    exporter: bytes = field(repr=False)  # 32
    pcrs: tuple[int, ...]


def collect(tpm: Tpm, request: Request, box_id: BoxId, event_log: Path = EVENT_LOG, *, notes: Path = NOTES) -> Evidence:
    """Quote `request.pcrs` bound to nonce, channel, box and event log; Refusal(BOX_TPM) if TPM or log fail.

    The log is the firmware's, then what the initrd measured.
    """
    log = _whole_log(event_log, notes)
    qualifying = qualifying_data(request.nonce, request.exporter, box_id.bytes, log)
    attest, signature = tpm.quote(qualifying, request.pcrs)
    return Evidence(attest, signature, tpm.ak_public(), log, tpm.read_pcrs(request.pcrs))


def _whole_log(event_log: Path, notes: Path) -> bytes:
    try:
        log = event_log.read_bytes()
    except OSError as error:
        raise Refusal(Reason.BOX_TPM, f"no event log: {error.strerror}") from error
    try:
        return with_notes(log, notes.read_bytes())
    except FileNotFoundError:
        return log  # the firmware's alone: of an initrd that measures nothing
    except (OSError, ValueError) as error:
        raise Refusal(Reason.BOX_TPM, f"what the initrd measured is unreadable: {error}") from error
