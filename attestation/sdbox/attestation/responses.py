"""What a TPM's response code means for the box: TPM 2.0 part 2, 6.6, and the layers of the TSS around it. Pure."""

from __future__ import annotations

from sdbox.protocol.reasons import Reason

NOT_THERE = 0x8B  # TPM_RC_HANDLE, base code: nothing lives at a persistent handle or an NV index

_FORMAT_ONE = 0x080  # such a code also says which parameter, handle or session it is about: 6.6.2
_TPM_LAYERS = {0, 12}  # the TPM itself, and a resource manager that answers in its name
_LIBRARY_LAYERS = {7, 8, 9}  # ESAPI, SAPI, marshalling
_MALFORMED = {17, 19, 27}  # MALFORMED_RESPONSE, INSUFFICIENT_RESPONSE, RSP_AUTH_FAILED
_TRY_AGAIN = 9

# TPM_RC_CONTEXT_GAP to TPM_RC_OBJECT_HANDLES: no room for a key or a session. YIELDED, CANCELED, TESTING, NV_RATE,
# RETRY, NV_UNAVAILABLE: not now.
_BUSY = {*range(0x901, 0x907), 0x908, 0x909, 0x90A, 0x920, 0x922, 0x923}
_LOCKOUT = 0x921
# TPM_RC_INITIALIZE, FAILURE, UPGRADE (a firmware update was broken off), REBOOT, NEEDS_TEST: only a power cycle helps.
_FAILED = {0x100, 0x101, 0x12D, 0x130, 0x153}
_DISABLED = {0x120, 0x085}  # TPM_RC_DISABLED, TPM_RC_HIERARCHY
_NOT_AUTHORIZED = {0x08E, 0x0A2}  # TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH


def base_code(response: int) -> int:
    """Return a code without its layer and without which parameter, handle or session it is about."""
    code = response & 0xFFFF
    return code & 0xBF if code & _FORMAT_ONE else code


def reason_of(response: int, other: Reason = Reason.BOX_TPM) -> Reason:
    """Return what is wrong with a TPM that answers `response` (or the library for it); `other` if nothing is known.

    A command that the TPM finds badly authorized is one that was changed on its way: our keys have no password, and
    whether the hierarchy has one is the caller's to ask.
    """
    layer, code = response >> 16 & 0xFF, base_code(response)
    if layer in _LIBRARY_LAYERS and response & 0xFFFF in _MALFORMED:
        return Reason.BOX_TPM_BUS
    if layer not in _TPM_LAYERS:
        return Reason.BOX_TPM_BUSY if response & 0xFFFF == _TRY_AGAIN else other
    known = (
        (_BUSY, Reason.BOX_TPM_BUSY),
        ({_LOCKOUT}, Reason.BOX_TPM_LOCKOUT),
        (_FAILED, Reason.BOX_TPM_FAILURE),
        (_DISABLED, Reason.BOX_TPM_DISABLED),
        (_NOT_AUTHORIZED, Reason.BOX_TPM_BUS),
    )
    return next((reason for codes, reason in known if code in codes), other)


def is_unauthorized(response: int) -> bool:
    """Whether the TPM found an authorization wrong: another password, or a changed command."""
    return response >> 16 & 0xFF in _TPM_LAYERS and base_code(response) in _NOT_AUTHORIZED
