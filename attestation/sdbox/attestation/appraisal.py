"""The appraisal: one pure function from evidence, freshness, channel, reference values and policy to a verdict.

Numbers are the rows of the verifier's checklist (docs/attestation.md lists them with every code). Every check adds to
the list of failures on its own; only what cannot be parsed keeps the checks that need it from running. `Memory` holds
what was parsed or examined before: it saves time and changes no verdict.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from sdbox.attestation.bootchecks import value_failures
from sdbox.attestation.checks import (
    ak_failures,
    clock_failures,
    identity_failures,
    pcr_failures,
    signature_failures,
)
from sdbox.attestation.codes import failure
from sdbox.attestation.keys import Key, KeyMemory, load_key
from sdbox.attestation.logchecks import Facts, LogMemory, Rules, examine, log_digest
from sdbox.attestation.policy import NO_POLICY, Policy, selection
from sdbox.attestation.structures import (
    Algorithm,
    NotAQuote,
    Quote,
    StructureError,
    parse_quote,
    parse_signature,
)
from sdbox.attestation.verdict import Failure, Seen, Verdict
from sdbox.boot.reference import ReferenceValues, contradiction, version_number
from sdbox.protocol.contexts import qualifying_data_for
from sdbox.protocol.values import BoxId, Evidence

MAX_EVENT_LOG = 1 << 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the verifier knows by itself and the evidence must match.

    `ak_name` is the one activated, if any was; `enrolled_ak` the one this box has always had, if that is known;
    `previous` what was seen of the box last, and `connected` says that it was on this very channel. `log_digest` names
    a log that the box left out because it sent it before (a renewal); it counts only if `Memory` knows that log.
    """

    nonce: bytes = field(repr=False)
    exporter: bytes = field(repr=False)
    box_id: BoxId
    reference: ReferenceValues
    ak_name: bytes | None = None
    previous: Seen | None = None
    policy: Policy = NO_POLICY
    enrolled_ak: bytes | None = None
    connected: bool = False
    log_digest: bytes | None = None

    def rules(self) -> Rules:
        """Return what the event log is judged by."""
        return Rules(self.reference, self.policy, selection(self.reference, self.policy))


class Memory:
    """What a verifier need not compute twice: facts about logs under one set of rules, and parsed keys. Bounded."""

    def __init__(self, reference: ReferenceValues, policy: Policy, *, logs: int = 1024, keys: int = 4096) -> None:
        self.rules = Rules(reference, policy, selection(reference, policy))
        self.failures = tuple(_rule_failures(reference, policy))
        self.logs = LogMemory(self.rules, logs)
        self.keys = KeyMemory(keys)

    def fits(self, expected: Expected) -> bool:
        """Return whether it was made for these rules: else it says nothing."""
        return self.rules.reference is expected.reference and self.rules.policy is expected.policy


def appraise(evidence: Evidence, expected: Expected, memory: Memory | None = None) -> Verdict:
    """Judge `evidence`. Never raises: an exception inside is a failure of check 28."""
    try:
        return _appraise(evidence, expected, memory)
    except Exception as error:  # noqa: BLE001 - row 28: whatever goes wrong in here refuses the box (CVE-2022-3500)
        return Verdict((failure("internal", f"the appraisal failed: {type(error).__name__}"),))


def _appraise(evidence: Evidence, expected: Expected, memory: Memory | None) -> Verdict:
    if memory is not None and not memory.fits(expected):
        memory = None
    failures: list[Failure] = []
    quote = _parsed(parse_quote, evidence.attest, "attest", failures)
    signature = _parsed(parse_signature, evidence.signature, "signature", failures)
    key = _parsed(memory.keys.load if memory else load_key, evidence.ak_public, "ak-public", failures)
    if len(evidence.event_log) > MAX_EVENT_LOG:
        failures.append(failure("malformed-eventlog", f"more than {MAX_EVENT_LOG} bytes"))
        return Verdict(tuple(failures))
    if key:
        failures += ak_failures(key, expected.ak_name)
    if key and signature:
        failures += signature_failures(key, signature, evidence.attest)
    failures += memory.failures if memory else _rule_failures(expected.reference, expected.policy)
    name = expected.ak_name or b""
    if quote is None:
        return Verdict(tuple(failures), name)
    digest = expected.log_digest if expected.log_digest and not evidence.event_log else log_digest(evidence.event_log)
    case = _Case(evidence, expected, quote, memory.rules if memory else expected.rules(), digest)
    failures += _quote_failures(case, key)
    facts = _judge_log(case, memory, failures)
    seen = Seen(quote.clock, digest)
    if facts is None:
        return Verdict(tuple(failures), name, seen)
    return Verdict(tuple(failures), name, seen, facts.notes, facts.model, facts.microcode)


@dataclass(frozen=True, slots=True)
class _Case:
    """What is judged, once the quote is known to be one."""

    evidence: Evidence
    expected: Expected
    quote: Quote
    rules: Rules
    log_digest: bytes


def _quote_failures(case: _Case, key: Key | None) -> Iterator[Failure]:
    expected, quote, digest = case.expected, case.quote, case.log_digest
    wanted = qualifying_data_for(expected.nonce, expected.exporter, expected.box_id.bytes, digest)
    if not hmac.compare_digest(quote.qualifying, wanted):
        yield failure("qualifying-data", "not made for this nonce, channel, box and log")
    yield from pcr_failures(quote, case.evidence.pcrs, case.rules.pcrs, key.public.scheme[1] if key else 0)
    yield from clock_failures(quote.clock, digest, expected.previous, connected=expected.connected)
    yield from identity_failures(quote, key, expected)


def _judge_log(case: _Case, memory: Memory | None, failures: list[Failure]) -> Facts | None:
    """Add what the log shows to `failures`; returns what is known of the log.

    What a log says counts only if the quote confirms it for exactly the policy's PCRs; else row 12, 13 or 18 failed.
    """
    log, rules, values = case.evidence.event_log, case.rules, case.evidence.pcrs
    known = memory.logs.find(rules, case.log_digest) if memory else None
    if known is None and case.expected.log_digest and not log:
        failures.append(failure("eventlog-unknown", "no log was sent, and none with that digest is known"))
        return None
    facts = known or examine(log, rules)
    failures += facts.broken
    if facts.values and facts.values == values and case.quote.selections == ((Algorithm.SHA256, rules.pcrs),):
        failures += facts.believed
        if memory and not known and not failures:
            memory.logs.keep(rules, case.log_digest, facts)
        return facts
    signed = [index for _, indices in case.quote.selections for index in indices]
    wrong = [index for index in signed if facts.values and facts.values.get(index) != values.get(index)]
    if wrong and tuple(signed) == rules.pcrs and set(values) == set(signed):
        listed = ", ".join(map(str, wrong))
        failures.append(failure("eventlog-replay", f"the log does not give the quoted value of PCR {listed}"))
    failures += value_failures(values, signed, case.expected.reference)
    return facts


def _parsed(parse: Callable[[bytes], _T], data: bytes, what: str, failures: list[Failure]) -> _T | None:
    try:
        return parse(data)
    except NotAQuote as error:
        failures.append(failure("not-a-quote", str(error)))
    except StructureError as error:
        failures.append(failure(f"malformed-{what}", str(error)))
    return None


def _rule_failures(reference: ReferenceValues, policy: Policy) -> Iterator[Failure]:
    """Rows 28 and 30."""
    if reason := contradiction(reference):
        yield failure("policy", reason)
    if policy.minimum_image_version and version_number(reference.image_version) < policy.minimum_image_version:
        yield failure("image-version", f"version {reference.image_version}, at least {policy.minimum_image_version}")
    if reference.uki_sha256 in policy.revoked_images:
        yield failure("image-revoked", f"image {reference.uki_sha256}")


__all__ = ["Expected", "Facts", "Memory", "appraise"]
