"""Box side: gather the evidence for one nonce on one channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdbox.attestation.tpm import Tpm
from sdbox.protocol.values import BoxId, Evidence

EVENT_LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")


@dataclass(frozen=True, slots=True)
class Request:
    """What the gateway asked for, on which channel."""

    nonce: bytes
    exporter: bytes
    pcrs: tuple[int, ...]


def collect(tpm: Tpm, request: Request, box_id: BoxId, event_log: Path = EVENT_LOG) -> Evidence:
    """Quote `request.pcrs` bound to nonce, channel, box and event log."""
    raise NotImplementedError
