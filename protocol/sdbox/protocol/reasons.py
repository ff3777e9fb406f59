"""Reason codes: why something was refused. `explanations.py` says what each means, in the researcher's words.

Every refusal on the box's screen, on its console and in the gateway's record carries one of these (S11).
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The codes. Stable: scripts and records rely on them; what each means is in `explanations.py`."""

    GATEWAY_UNREACHABLE = "gateway-unreachable"
    GATEWAY_UNTRUSTED = "gateway-untrusted"
    BOX_UNKNOWN = "box-unknown"
    BOX_ACTIVATION = "box-activation"
    BOX_EVIDENCE = "box-evidence"
    BOX_IMAGE = "box-image"
    BOX_MICROCODE = "box-microcode"
    BOX_TPM = "box-tpm"
    BOX_TPM_ABSENT = "box-tpm-absent"
    BOX_TPM_BUSY = "box-tpm-busy"
    BOX_TPM_LOCKOUT = "box-tpm-lockout"
    BOX_TPM_FAILURE = "box-tpm-failure"
    BOX_TPM_DISABLED = "box-tpm-disabled"
    BOX_TPM_BUS = "box-tpm-bus"
    TOO_MANY_REQUESTS = "too-many-requests"
    RESULT_LAPSED = "result-lapsed"
    CARD_UNKNOWN = "card-unknown"
    CARD_FAILED = "card-failed"
    CARD_UNTRUSTED = "card-untrusted"
    CARD_FINGER = "card-finger"
    CARD_PIN = "card-pin"
    CARD_TIMEOUT = "card-timeout"
    CARD_LAST_TRY = "card-last-try"
    CARD_BLOCKED = "card-blocked"
    CARD_NO_FINGER = "card-no-finger"
    CARD_SENSOR = "card-sensor"
    CARD_UNCLEAR = "card-unclear"
    CARD_IDLE = "card-idle"
    CARD_LIMIT = "card-limit"
    CARD_FRESH = "card-fresh"
    CARD_EMPTY = "card-empty"
    CARD_PROOF = "card-proof"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_YET_VALID = "certificate-not-yet-valid"
    CERTIFICATE_ISSUER = "certificate-issuer"
    CERTIFICATE_USAGE = "certificate-usage"
    CERTIFICATE_REVOKED = "certificate-revoked"
    CERTIFICATE_SUPERSEDED = "certificate-superseded"
    CERTIFICATE_UNREADABLE = "certificate-unreadable"
    CONTAINER_DUPLICATE = "container-duplicate"
    PROJECT_NO_BUBBLE = "project-no-bubble"
    PROJECT_NOT_ON_CARD = "project-not-on-card"
    PROJECT_DEVICE = "project-device"
    PROJECT_CLOSING = "project-closing"
    TUNNEL_FAILED = "tunnel-failed"
    DESKTOP_FAILED = "desktop-failed"
    SESSION_REVOKED = "session-revoked"
    RENEWAL_UNAVAILABLE = "renewal-unavailable"
    RENEWAL_REFUSED = "renewal-refused"
    RENEWAL_FAILED = "renewal-failed"
    ENROLMENT_REFUSED = "enrolment-refused"
    PROTOCOL = "protocol"
    INTERNAL = "internal"


class Refusal(Exception):
    """Something was refused for `reason`. `detail` is for the log: no PIN, key, nonce or project name in it (S8)."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


def parse_reason(code: str) -> Reason:
    """Return the reason of a code that came over the wire; an unknown code is itself a protocol error."""
    try:
        return Reason(code)
    except ValueError:
        return Reason.PROTOCOL
