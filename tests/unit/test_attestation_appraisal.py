"""The verifier's checklist: honest evidence is accepted, and each bad input is caught by its row and by no other."""

from __future__ import annotations

import struct
import uuid
from dataclasses import replace

import pytest

from sdbox.attestation.appraisal import appraise
from sdbox.attestation.structures import name_of
from sdbox.attestation.verdict import Clock, Verdict
from sdbox.boot.reference import ReferenceValues
from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import BoxId, Evidence
from tests.unit.attestation_factory import (
    AK_ATTRIBUTES,
    BOX,
    ECDSA,
    EXPORTER,
    LOG,
    NONCE,
    RECORDS,
    SHA256,
    VALUES,
    Attest,
    ak_public,
    digest_of,
    evidence,
    evidence_for_log,
    expected,
    reference,
    selection,
    sign,
)
from tests.unit.boot_log_factory import SPEC_ID, Record, agile_log, old_record

GOOD = evidence()
BIT = {"fixedTPM": 1, "fixedParent": 4, "sensitiveDataOrigin": 5, "restricted": 16, "sign": 18}


def rows(verdict: Verdict) -> set[tuple[int, str]]:
    return {(failure.check, failure.code) for failure in verdict.failures}


def with_key(attributes: int) -> tuple[Evidence, bytes]:
    public = ak_public(attributes)
    return replace(GOOD, ak_public=public), name_of(public)


def test_honest_evidence_is_accepted() -> None:
    verdict = appraise(GOOD, expected())
    assert verdict.accepted
    assert verdict.failures == ()
    assert verdict.reason is None
    assert verdict.ak_name == name_of(GOOD.ak_public)
    assert verdict.clock == Clock(1000, 5, 1, safe=True)


@pytest.mark.parametrize("bit", BIT.values(), ids=BIT.keys())
def test_row_4_an_attestation_key_that_could_sign_forged_structures(bit: int) -> None:
    bad, name = with_key(AK_ATTRIBUTES & ~(1 << bit))
    assert rows(appraise(bad, replace(expected(), ak_name=name))) == {(4, "ak-attributes")}


def test_row_4_a_key_that_decrypts() -> None:
    bad, name = with_key(AK_ATTRIBUTES | 1 << 17)
    assert rows(appraise(bad, replace(expected(), ak_name=name))) == {(4, "ak-attributes")}


def test_row_4_another_key_than_the_activated_one() -> None:
    other = name_of(ak_public(AK_ATTRIBUTES | 1 << 7))
    assert rows(appraise(GOOD, replace(expected(), ak_name=other))) == {(4, "ak-name")}


MALFORMED = {
    "byte behind the quote": (evidence(Attest(tail=b"\0")), "malformed-attest"),
    "byte behind the signature": (replace(GOOD, signature=GOOD.signature + b"\0"), "malformed-signature"),
    "cut signature": (replace(GOOD, signature=GOOD.signature[:-1]), "malformed-signature"),
    "safe of 2": (evidence(Attest(clock=(1000, 5, 1, 2))), "malformed-attest"),
    "huge quote": (evidence(Attest(tail=bytes(4096))), "malformed-attest"),
    "million selections": (evidence(Attest(selections=(selection(4),) * 17)), "malformed-attest"),
    "long selection": (evidence(Attest(selections=(struct.pack(">HB", SHA256, 5) + bytes(5),))), "malformed-attest"),
    "huge log": (replace(GOOD, event_log=bytes((1 << 20) + 1)), "malformed-eventlog"),
}


@pytest.mark.parametrize(("bad", "code"), MALFORMED.values(), ids=MALFORMED.keys())
def test_row_8_one_encoding_and_size_caps(bad: Evidence, code: str) -> None:
    assert rows(appraise(bad, expected())) == {(8, code)}


def test_row_8_a_point_off_the_curve() -> None:
    public = GOOD.ak_public[:-1] + bytes([GOOD.ak_public[-1] ^ 1])
    verdict = appraise(replace(GOOD, ak_public=public), replace(expected(), ak_name=name_of(public)))
    assert rows(verdict) == {(8, "malformed-ak-public")}


@pytest.mark.parametrize("attest", [Attest(magic=0xFF544348), Attest(kind=0x8017), Attest(kind=0x8014)])
def test_row_9_something_else_than_a_quote(attest: Attest) -> None:
    assert rows(appraise(evidence(attest), expected())) == {(9, "not-a-quote")}


def test_row_10_a_signature_by_nobody() -> None:
    flipped = GOOD.signature[:-1] + bytes([GOOD.signature[-1] ^ 1])
    assert rows(appraise(replace(GOOD, signature=flipped), expected())) == {(10, "signature")}


def test_row_10_a_changed_quote() -> None:
    changed = replace(GOOD, attest=Attest(clock=(1001, 5, 1, 1)).encode())
    assert rows(appraise(changed, expected())) == {(10, "signature")}


@pytest.mark.parametrize("scheme", [(ECDSA, 0x0004), (ECDSA, 0x000C), (0x0010, 0)])
def test_row_10_a_scheme_that_is_not_allowed_or_not_the_keys(scheme: tuple[int, int]) -> None:
    label = (ECDSA, 0x0004) if scheme[0] != ECDSA else scheme
    bad = replace(GOOD, signature=sign(GOOD.attest, label))
    assert (10, "signature-scheme") in rows(appraise(bad, expected()))
    assert {row for row, _ in rows(appraise(bad, expected()))} <= {10, 13}


def test_row_10_a_key_whose_own_scheme_is_sha_1() -> None:
    public = ak_public(scheme=(ECDSA, 0x0004))
    bad = replace(GOOD, ak_public=public, signature=sign(GOOD.attest, (ECDSA, 0x0004)))
    assert (10, "signature-scheme") in rows(appraise(bad, replace(expected(), ak_name=name_of(public))))


FRESHNESS = {
    "replayed nonce": {"nonce": b"m" * 32},
    "relayed channel": {"exporter": b"f" * 32},
    "another box": {"box_id": BoxId(uuid.UUID(int=7))},
}


@pytest.mark.parametrize("change", FRESHNESS.values(), ids=FRESHNESS.keys())
def test_row_11_evidence_made_for_something_else(change: dict[str, bytes]) -> None:
    assert rows(appraise(GOOD, replace(expected(), **change))) == {(11, "qualifying-data")}  # type: ignore[arg-type]


def test_row_11_a_log_that_was_not_bound() -> None:
    log = agile_log(*RECORDS, Record(14, 13, b"another PCR's event"))
    assert rows(appraise(replace(GOOD, event_log=log), expected())) == {(11, "qualifying-data")}


def test_row_12_fewer_pcrs_than_the_policy_wants() -> None:
    values = {4: VALUES[4], 7: VALUES[7]}
    bad = evidence(Attest(selections=(selection(4, 7),), pcr_digest=digest_of(values)), pcrs=values)
    assert rows(appraise(bad, expected())) == {(12, "pcr-selection")}


def test_row_12_more_pcrs_than_the_policy_wants() -> None:
    values = VALUES | {8: bytes(32)}
    bad = evidence(Attest(selections=(selection(4, 7, 8, 11),), pcr_digest=digest_of(values)), pcrs=values)
    assert rows(appraise(bad, expected())) == {(12, "pcr-selection")}


def test_row_12_a_second_selection_that_selects_nothing() -> None:
    bad = evidence(Attest(selections=(selection(4, 7, 11), selection(bank=0x0004))))
    assert rows(appraise(bad, expected())) == {(12, "pcr-selection")}


def test_row_12_another_bank_with_the_same_bytes() -> None:
    bad = evidence(Attest(selections=(selection(4, 7, 11, bank=0x0027),)))
    assert rows(appraise(bad, expected())) == {(12, "pcr-selection")}


def test_row_12_relabelled_pcrs() -> None:
    """CVE-2024-29039: a quote over 5, 6 and 8 whose values are shown as 4, 7 and 11."""
    bad = evidence(Attest(selections=(selection(5, 6, 8),)))
    assert (12, "pcr-selection") in rows(appraise(bad, expected()))
    # An honest label for the same quote does not help either: nothing quoted says anything about 4, 7 and 11.
    honest = dict(zip((5, 6, 8), (VALUES[4], VALUES[7], VALUES[11]), strict=True))
    assert (12, "pcr-selection") in rows(appraise(replace(bad, pcrs=honest), expected()))


def test_row_13_values_that_the_quote_is_not_over() -> None:
    assert rows(appraise(evidence(Attest(pcr_digest=bytes(32))), expected())) == {(13, "pcr-digest")}


@pytest.mark.parametrize("pcrs", [{**VALUES, 8: bytes(32)}, {**VALUES, 4: VALUES[4] + b"\0"}])
def test_row_13_a_pcr_too_many_or_of_another_size(pcrs: dict[int, bytes]) -> None:
    assert (13, "pcr-values") in rows(appraise(evidence(pcrs=pcrs), expected()))


def test_row_13_a_pcr_missing() -> None:
    bad = evidence(pcrs={4: VALUES[4], 7: VALUES[7]})
    assert rows(appraise(bad, expected())) == {(13, "pcr-values")}


@pytest.mark.parametrize("index", [16, 21, 22, 23])
def test_row_14_a_policy_on_a_pcr_that_software_can_reset(index: int) -> None:
    values = VALUES | {index: (b"\xff" if index in {21, 22} else b"\0") * 32}
    pcrs = (4, 7, 11, index)
    bad = evidence(Attest(selections=(selection(*pcrs),), pcr_digest=digest_of(values)), pcrs=values)
    verdict = appraise(bad, replace(expected(), reference=reference(values, pcrs)))
    assert rows(verdict) == {(14, "pcr-resettable")}


OK, BACK = frozenset[tuple[int, str]](), frozenset({(15, "clock")})
CLOCKS = [
    ((1000, 5, 1, 1), (1000, 5, 1, 1), OK),  # an appraisal repeated
    ((1001, 5, 1, 1), (1000, 5, 1, 1), OK),
    ((1001, 5, 2, 1), (1000, 5, 1, 1), OK),  # suspended
    ((1001, 6, 0, 1), (1000, 5, 1, 1), OK),  # clean reboot
    ((900, 6, 0, 0), (1000, 5, 1, 1), OK),  # power cut
    ((999, 5, 1, 1), (1000, 5, 1, 1), BACK),
    ((1001, 5, 0, 1), (1000, 5, 1, 1), BACK),
    ((1001, 4, 9, 1), (1000, 5, 1, 1), BACK),
    ((1001, 5, 1, 0), (1000, 5, 1, 1), BACK),  # not safe, yet the same boot
    ((1001, 6, 0, 0), (900, 6, 0, 0), OK),  # renewed before the clock is safe again
]


@pytest.mark.parametrize(("now", "before", "failed"), CLOCKS)
def test_row_15_the_clock_never_goes_back(
    now: tuple[int, int, int, int], before: tuple[int, int, int, int], failed: frozenset[tuple[int, str]]
) -> None:
    previous = Clock(*before[:3], safe=bool(before[3]))
    verdict = appraise(evidence(Attest(clock=now)), replace(expected(), previous=previous))
    assert rows(verdict) == failed


BAD_LOGS = {
    "malformed": (LOG + b"\x01", (17, "eventlog")),
    "padding": (LOG + bytes(64), (17, "eventlog-padding")),
    "unknown type": (agile_log(*RECORDS, Record(14, 0x1234, b"")), (17, "eventlog-unknown-type")),
    "another Spec ID": (agile_log(*RECORDS, Record(0, 3, SPEC_ID)), (17, "eventlog-repeated-spec-id")),
    "event missing": (agile_log(*RECORDS[:-1]), (18, "eventlog-replay")),
    "event added": (agile_log(*RECORDS, Record(4, 13, b"x")), (18, "eventlog-replay")),
    "events swapped": (agile_log(*RECORDS[1:], RECORDS[0]), (18, "eventlog-replay")),
    "retyped": (agile_log(*RECORDS[:2], replace(RECORDS[2], type=4), *RECORDS[3:]), (19, "event-data")),
    "other data": (
        agile_log(*RECORDS[:4], Record(7, 4, b"text", VALUES[7]), RECORDS[5]),
        (18, "eventlog-replay"),
    ),
}


@pytest.mark.parametrize(("log", "row"), BAD_LOGS.values(), ids=BAD_LOGS.keys())
def test_rows_17_18_19_a_log_that_is_not_the_one_measured(log: bytes, row: tuple[int, str]) -> None:
    assert rows(appraise(evidence_for_log(log), expected())) == {row}


def test_row_17_a_sha_1_log() -> None:
    verdict = appraise(evidence_for_log(old_record(14, 4, bytes(4))), expected())
    assert {(17, "eventlog-bank"), (17, "eventlog-no-spec-id")} <= rows(verdict)


@pytest.mark.parametrize(("index", "row"), [(4, 22), (7, 21), (11, 23)])
def test_rows_21_22_23_a_machine_that_booted_something_else(index: int, row: int) -> None:
    values = VALUES | {index: b"\x99" * 32}
    verdict = appraise(GOOD, replace(expected(), reference=reference(values)))
    assert rows(verdict) == {(row, "pcr-mismatch")}
    assert verdict.reason is Reason.BOX_IMAGE


def test_an_image_that_differs_is_no_excuse_for_anything_else() -> None:
    bad = replace(expected(), reference=reference(VALUES | {4: bytes(32)}), nonce=b"m" * 32)
    assert appraise(GOOD, bad).reason is Reason.BOX_EVIDENCE


POLICIES = {
    "nothing": ReferenceValues((), {"sha256": {}}),
    "no values": ReferenceValues((4, 7, 11), {}),
    "one value missing": ReferenceValues((4, 7, 11), reference(pcrs=(4, 7)).pcrs),
    "not hex": ReferenceValues((4,), {"sha256": {"4": "x"}}),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_row_28_without_a_policy_nothing_is_accepted(policy: ReferenceValues) -> None:
    verdict = appraise(GOOD, replace(expected(), reference=policy))
    assert 28 in {row for row, _ in rows(verdict)}
    assert verdict.reason is Reason.BOX_EVIDENCE


def test_row_28_an_exception_inside_refuses() -> None:
    verdict = appraise(replace(GOOD, pcrs=None), expected())  # type: ignore[arg-type]
    assert rows(verdict) == {(28, "internal")}
    assert rows(appraise(GOOD, replace(expected(), nonce=NONCE[:-1]))) == {(28, "internal")}


def test_secrets_of_the_conversation_stay_out_of_repr() -> None:
    assert repr(NONCE) not in repr(expected())
    assert repr(EXPORTER) not in repr(expected())
    assert str(BOX) in repr(expected()) or "BoxId" in repr(expected())
