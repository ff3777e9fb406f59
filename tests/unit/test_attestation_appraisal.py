"""The verifier's checklist: honest evidence is accepted, and each bad input is caught by its row and by no other."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbox.attestation.appraisal import Memory, appraise
from sdbox.attestation.codes import CODES
from sdbox.attestation.logchecks import TOLERATED
from sdbox.attestation.policy import Policy
from sdbox.attestation.structures import (
    NotAQuote,
    StructureError,
    _quote,
    _signature,
    _whole,
    name_of,
    parse_quote,
    parse_signature,
)
from sdbox.attestation.verdict import Clock, Verdict
from sdbox.boot.eventlog import Quirk
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.reasons import Reason
from tests.unit import attestation_factory as f
from tests.unit.attestation_bad import BAD, GOOD, GOOD_ONES, Bad, odd
from tests.unit.attestation_factory import Forge, changed, expected, reference, selection, variable
from tests.unit.boot_log_factory import SPEC_ID, Record, agile_log

REASONS = dict.fromkeys((21, 22, 23, 25, 26, 30), Reason.BOX_IMAGE) | {27: Reason.BOX_MICROCODE}


def rows(verdict: Verdict) -> set[tuple[int, str]]:
    return {(failure.check, failure.code) for failure in verdict.failures}


def test_honest_evidence_is_accepted() -> None:
    verdict = appraise(GOOD, expected())
    assert verdict.failures == ()
    assert verdict.reason is None
    assert verdict.ak_name == name_of(GOOD.ak_public)
    assert verdict.clock == Clock(1000, 5, 1, safe=True)


@pytest.mark.parametrize("good", GOOD_ONES, ids=lambda good: good.what)
def test_what_differs_and_may(good: Bad) -> None:
    assert rows(appraise(good.evidence(), replace(expected(), **good.expects))) == set()


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.row} {bad.code} {bad.what}")
def test_a_bad_input_is_caught_by_its_row_only(bad: Bad) -> None:
    verdict = appraise(bad.evidence(), replace(expected(), **bad.expects))
    assert rows(verdict) == {(bad.row, bad.code)}
    assert verdict.reason is REASONS.get(bad.row, Reason.BOX_EVIDENCE)
    assert all(failure.text for failure in verdict.failures)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.row} {bad.code} {bad.what}")
def test_what_was_remembered_changes_no_verdict(bad: Bad) -> None:
    """The honest box was appraised before, and the bad one twice, with the same memory."""
    wanted = replace(expected(), **bad.expects)
    memory = Memory(wanted.reference, wanted.policy)
    appraise(GOOD, replace(expected(), reference=wanted.reference, policy=wanted.policy), memory)
    for _ in range(2):
        assert rows(appraise(bad.evidence(), wanted, memory)) == {(bad.row, bad.code)}


ELSEWHERE = {code for code in CODES if code.startswith("ek-")} | {"credential"}  # at enrolment and activation


def test_every_code_has_its_bad_input() -> None:
    assert {bad.code for bad in BAD} | ELSEWHERE == set(CODES)
    assert {(bad.row, bad.code) for bad in BAD} <= {(code.row, name) for name, code in CODES.items()}


def test_row_12_relabelled_pcrs() -> None:
    """CVE-2024-29039: a quote over 16 and 23 whose values are shown as 4 and 7."""
    bad = Forge(selections=(selection(5, 11, 12, 13, 15, 16, 23),)).evidence()
    assert {(12, "pcr-selection"), (14, "pcr-resettable")} <= rows(appraise(bad, expected()))
    # An honest label for the same quote does not help either: nothing quoted says anything about 4 and 7.
    honest = replace(bad, pcrs=dict(zip((5, 11, 12, 13, 15, 16, 23), f.VALUES.values(), strict=True)))
    assert (12, "pcr-selection") in rows(appraise(honest, expected()))


def test_row_13_a_value_of_another_size() -> None:
    bad = Forge(shown=f.VALUES | {4: f.VALUES[4] + b"\0"}, values=f.VALUES).evidence()
    assert (13, "pcr-values") in rows(appraise(bad, expected()))


@pytest.mark.parametrize("quirk", set(Quirk) - TOLERATED)
def test_row_17_a_quirk_that_is_not_tolerated_has_its_code(quirk: Quirk) -> None:
    assert CODES[f"eventlog-{quirk}"].row == 17


@pytest.mark.parametrize("quirk", TOLERATED)
def test_row_24_a_quirk_that_is_tolerated_is_noted_and_has_none(quirk: Quirk) -> None:
    logs = {
        Quirk.IMPLIED_LOCALITY: agile_log(Record(0, 0x80000010, b"HCRTM"), *f.RECORDS),
        Quirk.MISSING_DIGESTS: agile_log(*f.RECORDS, spec_id=two_banks(0x000C, 48)),
        Quirk.UNKNOWN_ALGORITHM: agile_log(*f.RECORDS, spec_id=two_banks(0x0099, 32)),
    }
    verdict = appraise(Forge(log=logs[quirk]).evidence(), expected())
    assert verdict.failures == ()
    assert [note.partition(":")[0] for note in verdict.notes] == [quirk]
    assert f"eventlog-{quirk}" not in CODES


def two_banks(number: int, size: int) -> bytes:
    """A Spec ID event that announces another bank besides SHA-256, which no record then has a digest for."""
    return SPEC_ID[:24] + struct.pack("<IHHHH", 2, 0x000B, 32, number, size) + b"\0"


def test_row_17_one_failure_for_each_code_however_often_it_is_met() -> None:
    """Else what a box puts into its log decides how long a list is, and what it hides."""
    odd_types = (Record(14, 0x1000 + number, b"") for number in range(3000))
    records = (*changed("variable SecureBoot", variable("SecureBoot", b"\0")), *odd_types)
    verdict = appraise(Forge(log=agile_log(*records)).evidence(), expected())
    assert [found.code for found in verdict.failures] == ["eventlog-unknown-type", "secure-boot-off"]
    assert verdict.failures[0].text.endswith("(and 2999 more)")


def test_a_log_that_is_not_the_boots_does_not_hide_another_image() -> None:
    """The honest log replayed over a TPM that holds another image."""
    bad = Forge(values=f.VALUES | {4: b"\x99" * 32}).evidence()
    assert rows(appraise(bad, expected())) == {(18, "eventlog-replay"), (22, "pcr-4")}


def test_an_image_that_differs_is_no_excuse_for_anything_else() -> None:
    other = reference(f.VALUES | {4: bytes(32)}, rules=0)
    assert appraise(GOOD, replace(expected(), reference=other)).reason is Reason.BOX_IMAGE
    assert appraise(GOOD, replace(expected(), reference=other, nonce=b"m" * 32)).reason is Reason.BOX_EVIDENCE


POLICIES = {
    "nothing": ReferenceValues((), {"sha256": {}}),
    "no values": ReferenceValues((4, 7, 11), {}),
    "one value missing": ReferenceValues((4, 7, 11), {"sha256": {"4": "00" * 32, "7": "00" * 32}}),
    "not hex": odd(reference()),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_row_28_without_a_policy_nothing_is_accepted(policy: ReferenceValues) -> None:
    verdict = appraise(GOOD, replace(expected(), reference=policy))
    assert 28 in {row for row, _ in rows(verdict)}
    assert verdict.reason is Reason.BOX_EVIDENCE


def test_row_28_an_exception_inside_refuses() -> None:
    verdict = appraise(replace(GOOD, pcrs=None), expected())  # type: ignore[arg-type]
    assert rows(verdict) == {(28, "internal")}


def test_row_32_an_appraisal_is_idempotent() -> None:
    memory = Memory(reference(), Policy())
    wanted = replace(expected(), reference=memory.rules.reference, policy=memory.rules.policy)
    first = appraise(GOOD, wanted, memory)
    assert [appraise(GOOD, wanted, memory) for _ in range(3)] == [first] * 3 == [appraise(GOOD, wanted)] * 3


def renewal(**changes: Any) -> tuple[Forge, dict[str, Any]]:  # noqa: ANN401 - any field of Forge
    verdict = appraise(GOOD, expected())
    assert verdict.seen
    return Forge(clock=(2000, 5, 1, 1), **changes), {"previous": verdict.seen, "log_digest": verdict.seen.log_digest}


def test_a_renewal_names_the_log_by_its_hash() -> None:
    wanted = expected()
    memory = Memory(wanted.reference, wanted.policy)
    again, expects = renewal()
    short = replace(again.evidence(), event_log=b"")
    assert rows(appraise(short, replace(wanted, **expects), memory)) == {(17, "eventlog-unknown")}
    assert appraise(GOOD, wanted, memory).accepted
    assert appraise(short, replace(wanted, **expects), memory).accepted
    # The log is known, and the TPM holds something else since: what was remembered does not speak for it.
    moved, _ = renewal(values=f.VALUES | {11: b"\x99" * 32})
    verdict = appraise(replace(moved.evidence(), event_log=b""), replace(wanted, **expects), memory)
    assert rows(verdict) == {(18, "eventlog-replay"), (23, "pcr-11")}


def test_memory_is_bounded_and_keeps_only_what_was_accepted() -> None:
    wanted = expected()
    memory = Memory(wanted.reference, wanted.policy, logs=2, keys=2)
    for bad in BAD:
        appraise(bad.evidence(), replace(wanted, **bad.expects), memory)
    for number in range(5):
        log = f.LOG + f.agile_record(number)
        assert appraise(Forge(log=log).evidence(), wanted, memory).accepted
        assert len(memory.logs) <= 2
        assert len(memory.keys) <= 2


def test_secrets_of_the_conversation_stay_out_of_repr() -> None:
    assert repr(f.NONCE) not in repr(expected())
    assert repr(f.EXPORTER) not in repr(expected())


@given(place=st.integers(0, 400), value=st.integers(0, 255), what=st.sampled_from(["attest", "signature"]))
def test_the_short_way_through_a_structure_says_what_the_long_way_says(place: int, value: int, what: str) -> None:
    """Rows 8 and 9: one encoding, two readers of it. A byte is changed, or added at the end."""
    data = bytearray(getattr(GOOD, what))
    data[place : place + 1] = bytes([value])
    short, long = (parse_quote, _quote) if what == "attest" else (parse_signature, _signature)
    try:
        wanted = _whole(bytes(data), long)
    except (StructureError, NotAQuote) as error:
        with pytest.raises(type(error)):
            short(bytes(data))
    else:
        assert short(bytes(data)) == wanted
