"""The timeline keeps the order, finds intervals, and its picture is well-formed and complete."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from sdbox.bench.timeline import Mark, Timeline
from sdbox.bench.timeline_view import svg, table


@pytest.fixture
def timeline() -> Timeline:
    marks = [Mark("power-on", 0.0, "bench"), Mark("picked", 9.0, "box"), Mark("desktop", 12.5, "screen")]
    marks += [Mark("picked", 20.0, "box"), Mark("desktop", 21.0, "screen"), Mark("agent <start>", 5.0, "box")]
    return Timeline(start=0.0, marks=marks)


def test_between_takes_the_first_after(timeline: Timeline) -> None:
    assert timeline.between("picked", "desktop") == pytest.approx(3.5)
    assert timeline.between("picked", "desktop", 1) == pytest.approx(1.0)


def test_missing_mark_says_what_was_seen(timeline: Timeline) -> None:
    with pytest.raises(KeyError, match="power-on"):
        timeline.seconds("grant")


def test_picture_has_every_mark_and_is_xml(timeline: Timeline) -> None:
    texts = [element.text or "" for element in ET.fromstring(svg(timeline)).iter() if element.tag.endswith("text")]  # noqa: S314 - our own
    for mark in timeline.marks:
        assert mark.name in texts
    assert table(timeline).row_count == len(timeline.marks)


def test_an_empty_timeline_can_be_drawn() -> None:
    ET.fromstring(svg(Timeline()))  # noqa: S314 - our own
