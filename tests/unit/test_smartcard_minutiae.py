"""From a sensor's record to a card's template: vectors worked out by hand, malformed records, pruning, order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbox.smartcard.hull import peel
from sdbox.smartcard.minutiae import (
    Direction,
    Limits,
    Method,
    Minutia,
    Order,
    TemplateError,
    card_template,
    prune,
    read_card_format,
    sort,
    write_card_format,
)
from tests.unit.minutiae_records import Row, record

ANY = Limits(1, 255)
UP, DOWN = Direction.ASCENDING, Direction.DESCENDING


def converted(rows: list[Row], limits: Limits = ANY, *, dots_per_cm: int = 197) -> str:
    return card_template(record(rows, dots_per_cm=dots_per_cm), limits).hex(" ", 3)


@pytest.mark.parametrize(
    ("row", "dots_per_cm", "expected"),
    [
        # 100 dots/cm are 0.1 mm each. Ending 01 at angle 0; bifurcation 10; other 00.
        ((1, 10, 20, 0, 50), 100, "0a1440"),
        ((2, 10, 20, 0, 50), 100, "0a1480"),
        ((0, 10, 20, 0, 50), 100, "0a1400"),
        ((3, 10, 20, 0, 50), 100, "0a1400"),  # reserved type: other
        # 197 dots/cm: 197 dots are 10.0 mm = 100 = 64 hex; 98 dots 4.975 mm -> 50; 99 dots 5.025 mm -> 50.
        ((1, 197, 98, 0, 50), 197, "643240"),
        ((1, 99, 99, 0, 50), 197, "323240"),
        # 200 dots/cm: half a unit rounds up. 1 dot = 0.05 mm -> 1, 3 dots = 0.15 mm -> 2, 2 dots = 0.10 mm -> 1.
        ((1, 1, 3, 0, 50), 200, "010240"),
        ((1, 2, 0, 0, 50), 200, "010040"),
        # 1000 dpi = 394 dots/cm: 394 dots 10 mm.
        ((1, 394, 788, 0, 50), 394, "64c840"),
        # Angle, 256ths to 64ths: 4 -> 1, 6 -> 1.5 -> 2, 5 -> 1.25 -> 1, 128 (half a turn) -> 32 = 20 hex,
        # 253 -> 63.25 -> 63 = 3f, 254 -> 63.5 -> 64 = a whole turn = 0.
        ((1, 10, 20, 4, 50), 100, "0a1441"),
        ((1, 10, 20, 6, 50), 100, "0a1442"),
        ((1, 10, 20, 5, 50), 100, "0a1441"),
        ((1, 10, 20, 128, 50), 100, "0a1460"),
        ((2, 10, 20, 253, 50), 100, "0a14bf"),
        ((2, 10, 20, 254, 50), 100, "0a1480"),
    ],
)
def test_one_minutia(row: Row, dots_per_cm: int, expected: str) -> None:
    assert converted([row], dots_per_cm=dots_per_cm) == expected


def test_a_finger_beyond_25_mm_is_moved_into_the_square() -> None:
    # 0.1 mm dots. x from 40 to 280 (24 mm): by 40 to the left. y fits and stays.
    assert converted([(1, 40, 10, 0, 9), (1, 280, 20, 0, 9)], dots_per_cm=100) == "000a40 f01440"


def test_what_a_square_of_25_mm_cannot_hold_is_left_out_at_both_sides() -> None:
    # x from 0 to 301: middle 150.5, square from 23 to 278; 0 and 301 are outside, 23 becomes 0, 278 becomes 255.
    rows: list[Row] = [(1, x, 10, 0, 9) for x in (0, 23, 150, 278, 301)]
    assert converted(rows, dots_per_cm=100) == "000a40 7f0a40 ff0a40"


def test_two_that_round_to_the_same_stay_one_the_better() -> None:
    rows: list[Row] = [(1, 10, 20, 5, 30), (2, 10, 20, 4, 60), (1, 10, 20, 32, 30)]
    assert converted(rows, dots_per_cm=100) == "0a1481 0a1448"


CROSS = [Minutia(x, y, 1, angle, 50) for x, y, angle in ((30, 10, 7), (10, 30, 3), (20, 20, 5), (10, 10, 9))]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order(), [(30, 10), (10, 30), (20, 20), (10, 10)]),
        (Order(Method.CARTESIAN_XY, UP), [(10, 10), (10, 30), (20, 20), (30, 10)]),
        (Order(Method.CARTESIAN_XY, DOWN), [(30, 10), (20, 20), (10, 30), (10, 10)]),
        (Order(Method.CARTESIAN_YX, UP), [(10, 10), (30, 10), (20, 20), (10, 30)]),
        (Order(Method.CARTESIAN_YX, DOWN), [(10, 30), (20, 20), (30, 10), (10, 10)]),
        (Order(Method.ANGLE, UP), [(10, 30), (20, 20), (30, 10), (10, 10)]),
        # Centre of mass (17.5, 17.5). Squared distances: (20,20) 12.5; (10,10) 112.5; the other two 212.5, by x.
        (Order(Method.POLAR, UP), [(20, 20), (10, 10), (10, 30), (30, 10)]),
        (Order(Method.POLAR, DOWN), [(30, 10), (10, 30), (10, 10), (20, 20)]),
    ],
)
def test_the_cards_order(order: Order, expected: list[tuple[int, int]]) -> None:
    assert [(each.x, each.y) for each in sort(CROSS, order)] == expected


@pytest.mark.parametrize(
    ("value", "order"),
    [
        (0x00, Order()),
        (0x05, Order(Method.CARTESIAN_XY, UP)),
        (0x06, Order(Method.CARTESIAN_XY, DOWN)),
        (0x09, Order(Method.CARTESIAN_YX, UP)),
        (0x0D, Order(Method.ANGLE, UP)),
        (0x12, Order(Method.POLAR, DOWN)),
    ],
)
def test_the_order_byte(value: int, order: Order) -> None:
    assert Order.parse(value) == order


@pytest.mark.parametrize("value", [0x01, 0x03, 0x04, 0x07, 0x14, 0x15, 0x20, 0x45, 0xFF])
def test_an_order_that_the_standard_does_not_have(value: int) -> None:
    with pytest.raises(ValueError):
        Order.parse(value)


def test_peeling_takes_hull_after_hull_and_the_farthest_first() -> None:
    outer, inner, middle = [(0, 0), (20, 0), (20, 20), (0, 20)], [(8, 8), (12, 8), (12, 12), (8, 12)], [(10, 10)]
    points = [*outer, *middle, *inner]
    assert peel(points, 9) == list(range(9))
    assert peel(points, 5) == [4, 5, 6, 7, 8]
    assert peel(points, 1) == [4]
    # One of the outer hull must go: the farthest from the centre of mass, which an outlier is.
    assert peel([*outer, (40, 10)], 4) == [0, 1, 2, 3]


def test_poor_minutiae_go_before_the_outermost() -> None:
    good = [Minutia(x, y, 1, 0, 60) for x, y in ((0, 0), (50, 0), (50, 50), (0, 50))]
    poor, worse = Minutia(25, 25, 1, 0, 20), Minutia(20, 20, 1, 0, 10)
    unknown = Minutia(30, 30, 1, 0, 0)  # 0: the sensor does not say
    assert prune([*good, poor, worse, unknown], Limits(1, 6)) == [*good, poor, unknown]
    assert prune([*good, poor, worse, unknown], Limits(1, 5)) == [*good, unknown]
    assert len(prune([*good, poor, worse, unknown], Limits(1, 3))) == 3


def test_too_few_minutiae_make_no_template() -> None:
    rows: list[Row] = [(1, 10 * index, 20, 0, 50) for index in range(11)]
    with pytest.raises(TemplateError, match="11 minutiae, the card needs 12"):
        card_template(record(rows), Limits(12, 60))


def broken(**changes: bytes) -> bytearray:
    """Return a good record of two minutiae with some bytes replaced; a key is `at` and the offset."""
    data = record([(1, 10, 20, 0, 50), (1, 30, 40, 0, 50)])
    for key, value in changes.items():
        offset = int(key.removeprefix("at"))
        data[offset : offset + len(value)] = value
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytearray(29),
        broken(at0=b"FIR\x00"),
        broken(at4=b" 30\x00"),
        broken(at11=b"\x29"),  # record length
        broken(at18=b"\x00\x00"),  # resolution x
        broken(at20=b"\x00\x00"),  # resolution y
        broken(at22=b"\x00"),  # views
        broken(at22=b"\x02"),
        broken(at27=b"\x03"),  # number of minutiae
        broken(at27=b"\x01"),
        broken(at40=b"\x00\x01"),  # extended data length
        broken()[:-1],
        broken() + b"\x00",
    ],
)
def test_a_malformed_record_is_refused(data: bytes) -> None:
    with pytest.raises(TemplateError):
        card_template(data, ANY)


def test_extended_data_is_skipped() -> None:
    data = broken(at40=b"\x00\x03") + b"abc"
    data[8:12] = len(data).to_bytes(4, "big")
    assert len(card_template(data, ANY)) == 6


def test_a_compact_template_of_another_length_is_refused() -> None:
    with pytest.raises(TemplateError):
        read_card_format(bytes(4))


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_template_or_its_error(data: bytes) -> None:
    for candidate in (data, b"FMR\x00 20\x00" + (len(data) + 12).to_bytes(4, "big") + data):
        try:
            template = card_template(candidate, ANY)
        except TemplateError:
            continue
        assert template
        assert len(template) % 3 == 0


rows = st.tuples(
    st.integers(0, 3), st.integers(0, 0x3FFF), st.integers(0, 0x3FFF), st.integers(0, 255), st.integers(0, 100)
)
orders = st.sampled_from([0x00, 0x05, 0x06, 0x09, 0x0A, 0x0D, 0x0E, 0x11, 0x12]).map(Order.parse)


@given(st.lists(rows, min_size=1, max_size=60), st.integers(50, 2000), st.integers(1, 40), orders)
def test_every_template_keeps_the_cards_limits_and_order(
    given_rows: list[Row], dots_per_cm: int, most: int, order: Order
) -> None:
    data = record(given_rows, dots_per_cm=dots_per_cm)
    try:
        minutiae = read_card_format(card_template(data, Limits(1, most, order)))
    except TemplateError:
        return  # two far apart may both be outside of the square
    assert 1 <= len(minutiae) <= most
    assert len({(each.x, each.y, each.angle) for each in minutiae}) == len(minutiae)
    assert sort(minutiae, order) == minutiae
    kinds = {row[0] if row[0] < 3 else 0 for row in given_rows}
    assert {each.kind for each in minutiae} <= kinds


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), unique=True, max_size=40), st.integers(0, 40))
def test_peeling_keeps_the_inner_ones(points: list[tuple[int, int]], most: int) -> None:
    left = peel(points, most)
    assert left == sorted(left)
    assert len(left) == min(most, len(points))


@given(st.binary(max_size=90).filter(lambda data: len(data) % 3 == 0))
def test_the_compact_format_round_trips(data: bytes) -> None:
    assert write_card_format(read_card_format(data)) == data


def test_rounding_is_never_off_by_more_than_half_a_unit() -> None:
    for dots_per_cm in (100, 197, 394):
        for dots in range(dots_per_cm * 2):
            (only,) = read_card_format(card_template(record([(1, dots, 0, 0, 9)], dots_per_cm=dots_per_cm), ANY))
            assert math.isclose(only.x, dots * 100 / dots_per_cm, abs_tol=0.5)
