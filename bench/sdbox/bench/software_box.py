"""Boxes in software, for measuring the verifier: their keys sign quotes like a TPM's, over a recorded boot."""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sdbox.attestation.appraisal import Expected
from sdbox.attestation.checks import qualified_name
from sdbox.attestation.logchecks import log_digest
from sdbox.attestation.policy import Policy
from sdbox.attestation.structures import Algorithm, name_of, parse_quote
from sdbox.attestation.templates import AK_TEMPLATE
from sdbox.attestation.verdict import Seen
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.contexts import qualifying_data_for
from sdbox.protocol.values import BoxId, Evidence

_EMPTY_POINT = 4  # the template ends with two empty coordinates
_UNMEASURED = struct.pack("<IIIH", 14, 13, 1, 0x000B)  # EV_IPL in PCR 14, which nobody quotes


@dataclass(frozen=True, slots=True)
class Ask:
    """One evidence, ready made, what it is held against, and its signature as `cryptography` takes it."""

    evidence: Evidence
    expected: Expected
    der: bytes


class SoftwareBox:
    """A box with an attestation key of its own; everything else is that of the recorded evidence."""

    def __init__(self, recorded: Evidence) -> None:
        self._recorded = recorded
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._id = BoxId(uuid.uuid4())
        point = self._key.public_key().public_numbers()
        sized = (struct.pack(">H32s", 32, number.to_bytes(32, "big")) for number in (point.x, point.y))
        self._public = AK_TEMPLATE[:-_EMPTY_POINT] + b"".join(sized)
        self._name = name_of(self._public)

    @property
    def public(self) -> bytes:
        """Return the key's TPMT_PUBLIC."""
        return self._public

    @property
    def key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def ask(self, reference: ReferenceValues, policy: Policy, *, own_log: bool = False) -> Ask:
        """Return evidence for a fresh nonce; with `own_log` its event log is like no other box's."""
        log = self._recorded.event_log + (_record(os.urandom(16)) if own_log else b"")
        nonce, exporter = os.urandom(32), os.urandom(32)
        attest = self._quote(qualifying_data_for(nonce, exporter, self._id.bytes, log_digest(log)))
        der = self._key.sign(attest, ec.ECDSA(hashes.SHA256()))
        r, s = (number.to_bytes(32, "big") for number in decode_dss_signature(der))
        signature = struct.pack(">HHH32sH32s", Algorithm.ECDSA, Algorithm.SHA256, 32, r, 32, s)
        evidence = Evidence(attest, signature, self._public, log, dict(self._recorded.pcrs))
        known = Seen(parse_quote(attest).clock, log_digest(log))
        expected = Expected(nonce, exporter, self._id, reference, self._name, known, policy)
        return Ask(evidence, expected, der)

    def _quote(self, qualifying: bytes) -> bytes:
        """Replace signer and qualifying data in the recorded TPMS_ATTEST; the sizes are the same."""
        recorded = self._recorded.attest
        return recorded[:8] + qualified_name(self._name) + recorded[42:44] + qualifying + recorded[76:]


def renewal(ask: Ask) -> Ask:
    """Return the same, with the log named by its hash."""
    digest = log_digest(ask.evidence.event_log)
    return replace(
        ask, evidence=replace(ask.evidence, event_log=b""), expected=replace(ask.expected, log_digest=digest)
    )


def _record(data: bytes) -> bytes:
    return _UNMEASURED + hashlib.sha256(data).digest() + struct.pack("<I", len(data)) + data
