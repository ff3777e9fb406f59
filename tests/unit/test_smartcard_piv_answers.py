"""What the box makes of a PIV card's answers: APDUs, the BIT group, objects, the outcome of VERIFY, padding."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.smartcard.apdu import ANSWER_LIMIT, Answer, ApduError, exchange
from sdbox.smartcard.bit import BitError, EnrolledFinger, parse_bit_group
from sdbox.smartcard.minutiae import Direction, Limits, Method, Order
from sdbox.smartcard.piv import PivApplication, PivError, Verdict, gunzip
from sdbox.smartcard.pss import pad_pss_sha256
from sdbox.smartcard.tlv import tlv

AID: Final = bytes.fromhex("A000000308000010000100")
GROUP: Final = bytes.fromhex("7F6122 020101 7F601C 830196 A117 810108 820105 87020101 88020005 B107 81020C3C 820105")


class Script:
    """A card that gives these answers, one after another, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = [bytes.fromhex(answer) for answer in answers]
        self.asked: list[str] = []

    def __call__(self, command: bytearray) -> bytes:
        self.asked.append(command.hex())
        return self.answers.pop(0)


def test_a_short_command_and_its_answer() -> None:
    card = Script("0102 9000")
    assert exchange(card, bytes.fromhex("00CB3FFF"), b"\x5c\x01\x7e") == Answer(b"\x01\x02", 0x9000)
    assert card.asked == ["00cb3fff035c017e00"]


def test_a_long_command_is_chained_and_a_long_answer_collected() -> None:
    card = Script("9000", "01 6102", "02 6101", "03 9000")
    assert exchange(card, bytes.fromhex("0087079A"), bytes(300)) == Answer(b"\x01\x02\x03", 0x9000)
    assert card.asked == [
        "1087079aff" + "00" * 255,
        "0087079a2d" + "00" * 45 + "00",
        "00c0000002",
        "00c0000001",
    ]


def test_a_chain_ends_where_the_card_refuses_it() -> None:
    card = Script("6982")
    assert exchange(card, bytes.fromhex("00870782"), bytes(600)).status == 0x6982
    assert len(card.asked) == 1


def test_a_wrong_length_is_corrected_once() -> None:
    card = Script("6C05", "0102030405 9000")
    assert exchange(card, bytes.fromhex("00CB3FFF"), b"\x5c\x01\x7e").data == bytes(range(1, 6))
    assert card.asked[1].endswith("5c017e05")


def test_what_was_sent_is_wiped() -> None:
    kept: list[bytearray] = []

    def card(command: bytearray) -> bytes:
        kept.append(command)
        assert any(command)
        return b"\x90\x00"

    exchange(card, bytes.fromhex("00200096"), bytearray(b"abc" * 20), asks=False)
    assert [set(command) for command in kept] == [{0}]


@pytest.mark.parametrize("answers", [("",), ("90",), ("01 6100", "90"), ("6100", "6100")])
def test_an_answer_without_status_or_end_is_an_error(answers: tuple[str, ...]) -> None:
    with pytest.raises(ApduError):
        exchange(Script(*answers), bytes.fromhex("00CB3FFF"))


def test_an_oversized_answer_is_an_error() -> None:
    with pytest.raises(ApduError):
        exchange(lambda _: bytes(ANSWER_LIMIT + 1) + b"\x90\x00", bytes.fromhex("00CB3FFF"))
    parts = 0

    def endless(_: bytearray) -> bytes:
        nonlocal parts
        parts += 1
        return bytes(256) + b"\x61\x00"

    with pytest.raises(ApduError):
        exchange(endless, bytes.fromhex("00CB3FFF"))
    assert parts <= ANSWER_LIMIT // 256 + 2


def test_a_bit_group_by_hand() -> None:
    limits = Limits(12, 60, Order(Method.CARTESIAN_XY, Direction.ASCENDING))
    assert parse_bit_group(GROUP) == (EnrolledFinger(0x96, limits),)
    assert parse_bit_group(bytes.fromhex("7F6103020100")) == ()


def test_parameters_beside_the_header_are_seen_too() -> None:
    header = tlv(0xA1, tlv(0x81, b"\x08"), tlv(0x87, b"\x01\x01"), tlv(0x88, b"\x00\x05"))
    parameters = tlv(0xB1, tlv(0x81, b"\x10\x50"))
    group = tlv(0x7F61, tlv(0x02, b"\x02"), *[tlv(0x7F60, header, parameters)] * 2)
    assert parse_bit_group(group) == tuple(EnrolledFinger(reference, Limits(16, 80)) for reference in (0x96, 0x97))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("7F6122", "7F6222"),  # another tag
        ("22020101", "22020102"),  # two announced
        ("830196", "830180"),  # the PIN's reference
        ("810108", "810109"),  # not a fingerprint
        ("87020101", "87020102"),  # another owner
        ("88020005", "88020001"),  # another format
        ("81020C3C", "81023C0C"),  # fewest more than most
        ("81020C3C", "8102003C"),
        ("0C3C820105", "0C3C8201FF"),  # an order that is none
        ("0C3C820105", "0C3C8202"),  # cut short
    ],
)
def test_a_bit_group_that_does_not_add_up_is_refused(old: str, new: str) -> None:
    text = GROUP.hex().upper()
    assert text.count(old) == 1
    with pytest.raises(BitError):
        parse_bit_group(bytes.fromhex(text.replace(old, new)))


@given(st.binary(max_size=80))
def test_any_bytes_are_a_bit_group_or_its_error(data: bytes) -> None:
    for candidate in (data, tlv(0x7F61, data), tlv(0x7F61, tlv(2, b"\x01"), tlv(0x7F60, data))):
        try:
            fingers = parse_bit_group(candidate)
        except BitError:
            continue
        assert all(0 < finger.limits.minimum <= finger.limits.maximum for finger in fingers)


@given(
    st.lists(st.binary(max_size=60), min_size=8, max_size=8), st.sampled_from([b"\x90\x00", b"\x6a\x82", b"\x61\x10"])
)
@settings(max_examples=60)
def test_any_answers_end_in_values_or_piv_error(answers: list[bytes], status: bytes) -> None:
    def ask(method: Callable[[PivApplication], object]) -> None:
        left = iter(answers)
        try:
            method(PivApplication(lambda _: next(left, b"") + status, AID))
        except PivError:
            return

    for method in (
        PivApplication.select,
        PivApplication.allows_comparison,
        PivApplication.fingers,
        PivApplication.serial,
        lambda card: list(card.certificates()),
        lambda card: card.counter(0x96),
    ):
        ask(method)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("9000", Verdict(verified=True, tries=None)),
        ("63C2", Verdict(verified=False, tries=2)),
        ("63C0", Verdict(verified=False, tries=0)),
        ("6983", Verdict(verified=False, tries=0)),
        ("6A80", Verdict(verified=False, tries=None, refused_data=True)),
    ],
)
def test_what_a_verify_came_to(status: str, verdict: Verdict) -> None:
    card = Script(status)
    assert PivApplication(card, AID).verify(0x96, bytearray(b"\x01\x02\x03")) == verdict
    assert card.asked == ["0020009603010203"], "3N bytes, no wrapper, no Le"


@pytest.mark.parametrize("status", ["6982", "6A88", "6F00", "6300", "9001", "6700"])
def test_another_status_of_a_verify_is_an_error(status: str) -> None:
    with pytest.raises(PivError):
        PivApplication(Script(status), AID).verify(0x96, bytearray(b"abc"))


@pytest.mark.parametrize(
    "bad",
    [
        tlv(0x53, tlv(0x70, b"certificate")[:-1]),  # not written to its end
        tlv(0x54),  # another object
        tlv(0x53, tlv(0x70, b"no gzip"), tlv(0x71, b"\x01")),
    ],
)
def test_what_is_no_certificate_object_costs_the_others_nothing(bad: bytes) -> None:
    good = tlv(0x53, tlv(0x70, b"certificate"))
    history = tlv(0x53, tlv(0xC1, b"\x02"))
    card = Script(*(answer.hex() + "9000" for answer in (history, bad, bad, good)))
    assert list(PivApplication(card, AID).certificates()) == [(0x83, b"certificate")]
    assert len(card.asked) == 4, "what can't be read is one of the two that the history counts"


def test_a_compressed_certificate_is_opened_and_bounded() -> None:
    certificate = b"certificate" * 50
    chained = tlv(0x53, tlv(0x70, gzip.compress(certificate)), tlv(0x71, b"\x01"), tlv(0xFE))
    history = tlv(0x53, tlv(0xC1, b"\x00"))
    card = Script(history.hex() + "9000", chained.hex() + "9000")
    assert list(PivApplication(card, AID).certificates()) == [(0x9A, certificate)]
    for bad in (b"no gzip", gzip.compress(certificate)[:-4], gzip.compress(bytes(1 << 20)), gzip.compress(b"a") + b"b"):
        with pytest.raises(PivError):
            gunzip(bad)


def test_an_empty_slot_between_is_passed_over() -> None:
    card = Script("5303C101019000", "6A82", "6A82", "53057003414243 9000")
    assert list(PivApplication(card, AID).certificates()) == [(0x83, b"ABC")]


def test_pss_padding_is_what_the_library_accepts() -> None:
    key = rsa.generate_private_key(65537, 2048)
    numbers, digest = key.private_numbers(), bytes(range(32))
    block = pad_pss_sha256(digest, 2048)
    signature = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")
    prehashed = utils.Prehashed(hashes.SHA256())
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    key.public_key().verify(signature, digest, pss, prehashed)
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, bytes(32), pss, prehashed)
    assert pad_pss_sha256(digest, 2048) != block, "salted"
    with pytest.raises(ValueError):
        pad_pss_sha256(digest[:-1], 2048)
