"""What a TPM's response codes mean: format zero and one, and the layers of the library."""

from __future__ import annotations

import pytest

from sdbox.attestation.responses import base_code, is_unauthorized, reason_of
from sdbox.protocol.reasons import Reason


@pytest.mark.parametrize(
    ("response", "base"),
    [(0x101, 0x101), (0x922, 0x922), (0x18B, 0x8B), (0x98E, 0x8E), (0x2C4, 0x84), (0xC0922, 0x922), (0x9A2, 0xA2)],
)
def test_what_a_code_is_about_is_left_out(response: int, base: int) -> None:
    assert base_code(response) == base


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (0x901, Reason.BOX_TPM_BUSY),
        (0x906, Reason.BOX_TPM_BUSY),
        (0x907, Reason.BOX_ACTIVATION),
        (0x920, Reason.BOX_TPM_BUSY),
        (0x921, Reason.BOX_TPM_LOCKOUT),
        (0x12D, Reason.BOX_TPM_FAILURE),
        (0x130, Reason.BOX_TPM_FAILURE),
        (0x153, Reason.BOX_TPM_FAILURE),
        (0x185, Reason.BOX_TPM_DISABLED),
        (0x98E, Reason.BOX_TPM_BUS),
        (0x9A2, Reason.BOX_TPM_BUS),
        (0x1DF, Reason.BOX_ACTIVATION),  # TPM_RC_INTEGRITY, first parameter: a credential for another key
        (0x7001B, Reason.BOX_TPM_BUS),  # ESAPI: the answer's HMAC is wrong
        (0x80011, Reason.BOX_TPM_BUS),  # SAPI: malformed answer
        (0xA0009, Reason.BOX_TPM_BUSY),  # TCTI: try again
        (0xA000A, Reason.BOX_ACTIVATION),  # TCTI: an I/O error says nothing of the TPM
        (0xB0101, Reason.BOX_ACTIVATION),  # the resource manager's own code is no TPM's
        (0xC0101, Reason.BOX_TPM_FAILURE),  # and this one is in its name
    ],
)
def test_a_code_s_reason(response: int, reason: Reason) -> None:
    assert reason_of(response, Reason.BOX_ACTIVATION) is reason


def test_only_the_tpm_says_that_a_command_is_not_authorized() -> None:
    assert [code for code in (0x98E, 0x9A2, 0xA008E, 0x185) if is_unauthorized(code)] == [0x98E, 0x9A2]
