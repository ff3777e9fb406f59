"""The appraisal: one pure function from evidence, freshness, channel and reference values to a verdict.

Numbers are the rows of the verifier's checklist (attestation/README.md lists those that this version checks). Every
check adds to the list of failures on its own; only what cannot be parsed keeps the checks that need it from running.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from sdbox.attestation.checks import ak_failures, clock_failures, pcr_failures, signature_failures
from sdbox.attestation.logchecks import log_failures
from sdbox.attestation.structures import NotAQuote, StructureError, parse_public, parse_quote, parse_signature
from sdbox.attestation.verdict import PCR_MISMATCH, Clock, Failure, Verdict
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.contexts import qualifying_data
from sdbox.protocol.values import BoxId, Evidence

MAX_EVENT_LOG = 1 << 20
_ROWS = {4: 22, 7: 21, 11: 23}  # the checklist's row for each PCR's content; firmware PCRs are row 25
_FIRMWARE_ROW = 25
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the verifier knows by itself and the evidence must match.

    `ak_name` is the one activated, if any was; `previous` is the box's last accepted clock, if the verifier keeps it.
    """

    nonce: bytes = field(repr=False)
    exporter: bytes = field(repr=False)
    box_id: BoxId
    reference: ReferenceValues
    ak_name: bytes | None = None
    previous: Clock | None = None


def appraise(evidence: Evidence, expected: Expected) -> Verdict:
    """Judge `evidence`. Never raises: an exception inside is a failure of check 28."""
    try:
        return _appraise(evidence, expected)
    except Exception as error:  # noqa: BLE001 - row 28: whatever goes wrong in here refuses the box (CVE-2022-3500)
        return Verdict((Failure(28, "internal", f"the appraisal failed: {type(error).__name__}"),))


def _appraise(evidence: Evidence, expected: Expected) -> Verdict:
    failures: list[Failure] = []
    quote = _parsed(parse_quote, evidence.attest, "attest", failures)
    signature = _parsed(parse_signature, evidence.signature, "signature", failures)
    public = _parsed(parse_public, evidence.ak_public, "ak-public", failures)
    if len(evidence.event_log) > MAX_EVENT_LOG:
        failures.append(Failure(8, "malformed-eventlog", f"more than {MAX_EVENT_LOG} bytes"))
        return Verdict(tuple(failures))
    if public:
        failures += ak_failures(public, evidence.ak_public, expected.ak_name)
    if public and signature:
        failures += signature_failures(public, signature, evidence.attest)
    if quote:
        selection = expected.reference.pcr_selection
        bound = _is_bound(quote.qualifying, evidence, expected)
        failures += [] if bound else [Failure(11, "qualifying-data", "not made for this nonce, channel, box and log")]
        failures += pcr_failures(quote, evidence.pcrs, selection, signature.hash if signature else 0)
        failures += clock_failures(quote.clock, expected.previous)
        signed = {index for _, indices in quote.selections for index in indices}
        values = {index: value for index, value in evidence.pcrs.items() if index in signed}
        failures += log_failures(evidence.event_log, values)
        failures += _reference_failures(values, expected.reference)
    name = expected.ak_name or b""
    return Verdict(tuple(failures), name, quote.clock if quote else None)


def _parsed(parse: Callable[[bytes], _T], data: bytes, what: str, failures: list[Failure]) -> _T | None:
    try:
        return parse(data)
    except NotAQuote as error:
        failures.append(Failure(9, "not-a-quote", str(error)))
    except StructureError as error:
        failures.append(Failure(8, f"malformed-{what}", str(error)))
    return None


def _is_bound(qualifying: bytes, evidence: Evidence, expected: Expected) -> bool:
    box_id = expected.box_id.bytes
    return hmac.compare_digest(
        qualifying, qualifying_data(expected.nonce, expected.exporter, box_id, evidence.event_log)
    )


def _reference_failures(values: dict[int, bytes], reference: ReferenceValues) -> Iterator[Failure]:
    """Rows 21, 22, 23 and, as the root hash is in the measured command line, 26. Without a policy: row 28."""
    if not reference.pcr_selection or set(reference.pcr_selection) != set(reference.expected()):
        yield Failure(28, "policy", "the reference values do not say what to expect of every selected PCR")
    for index, wanted in reference.expected().items():
        if index in values and values[index] != wanted:
            text = f"PCR {index} is {values[index].hex()}, reference {wanted.hex()}"
            yield Failure(_ROWS.get(index, _FIRMWARE_ROW), PCR_MISMATCH, text)
