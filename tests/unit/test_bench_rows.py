"""The bench's rows: what they make of what was noted."""

from __future__ import annotations

import pytest

from sdbox.bench.bench_way import Row, wipe_rows
from sdbox.bench.hands import Unexpected

NOTE = "[  61.5] sdbox-agent[9]: sdbox-note wipe cause={} picture-gone-ms={} keys-wiped-ms={}\n"


def test_removals_are_judged_by_their_worst() -> None:
    console = "".join(
        NOTE.format("card-removed", gone, wiped) for gone, wiped in ((40.0, 50.5), (90.0, 20.0), (30, 21))
    )
    rows = {row.what: row for row in wipe_rows(console + NOTE.format("user", 900.0, 900.0))}
    worst = rows["card out to picture gone, 99th percentile of 3"]
    assert (worst.seconds, worst.must, worst.ratio) == (0.09, 0.1, None)
    assert rows["card out to keys wiped, 99th percentile of 3"].seconds == 0.0505
    assert rows["card out to picture gone, median"].seconds == 0.04


def test_no_removal_is_no_figure() -> None:
    with pytest.raises(Unexpected, match="no removal"):
        wipe_rows(NOTE.format("user", 1.0, 1.0))


def test_a_ratio_needs_something_beside_it() -> None:
    assert Row("boot", 30.0, "empty init", 15.0, 2.5, 1.8).cells() == ["30", "15", "2", "2.5", "1.8"]
