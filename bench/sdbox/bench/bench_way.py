"""Measures the way: each phase, the switch beside a bare connect, the boot beside an empty init, the card out."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdbox.bench import sight, way
from sdbox.bench.bubble import ATLAS
from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.lab import Lab
from sdbox.bench.run_cli import stand_up
from sdbox.bench.stand import development_tpm, machine_spec
from sdbox.bench.timeline import Timeline
from sdbox.bench.timeline_view import svg
from sdbox.host.places import cache_folder
from sdbox.host.workfolder import work_prefix
from sdbox.image.build import BuildRequest, BuiltImage, build_image
from sdbox.image.request import SigningKey, development_keys
from sdbox.image.variants import with_empty_init
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state

EMPTY_INIT_RUNS = "sdbox-boot empty-init"
INSERTED = "card inserted"
VISITS = 6  # besides the way's own; each is a whole session, and takes a quarter of a minute under emulation
WIPED = re.compile(r"sdbox-note wipe cause=card-removed picture-gone-ms=([\d.]+) keys-wiped-ms=([\d.]+)")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in seconds, and what it is compared with.

    `must` and `aim` are the budgets of design.md, section 6: ratios where something ran beside it, else seconds.
    """

    what: str
    seconds: float
    beside_what: str = ""
    beside: float | None = None
    must: float | None = None
    aim: float | None = None

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of what ran beside it."""
        return self.seconds / self.beside if self.beside else None

    def cells(self) -> list[str]:
        """Return the numbers for a table."""
        numbers = (self.seconds, self.beside, self.ratio, self.must, self.aim)
        return ["-" if number is None else f"{number:.3g}" for number in numbers]

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {**dataclasses.asdict(self), "ratio": self.ratio}


def measure_way(output: Path) -> list[Row]:
    """Walk the whole way once and boot an empty init beside it, on the same stand; returns all rows."""
    timeline = Timeline()
    with stand_up("sc-hsm-bio", timeline, output, window=False) as (hands, lab):
        way.go(hands, lab)
        later = visits(hands)
        removed = wipe_rows(hands.machine.console.text())
        hands.machine.stop()
        empty = boot_empty_init(lab)
    (output / "timeline.svg").write_text(svg(timeline), encoding="utf-8")
    return [*ratios(timeline, empty), *insertions(timeline, later), *removed, *phases(timeline)]


def ratios(timeline: Timeline, empty: float) -> list[Row]:
    """Return the rows that design.md sets a budget for."""
    switch = timeline.between("pick boreal", "screen: desktop:boreal")
    # The client's own part of the same switch, tunnel already up: what a bare xfreerdp3 takes to the same server.
    bare = timeline.between("client-start", "screen: desktop:boreal", 1)
    boot = timeline.seconds("screen: insert-card")
    return [
        Row("switch: pick to the other desktop", switch, "xfreerdp3 alone, same server", bare, 1.5, 1.1),
        Row("boot to insert-card", boot, "same firmware, kernel, initrd; empty init", empty, 2.5, 1.8),
    ]


def visits(hands: Hands) -> Timeline:
    """Put the card in and pull it out of a session again and again; return the timeline of that."""
    hands.timeline = Timeline()  # the way's own stays as it was
    for _ in range(VISITS):
        hands.insert()
        hands.finger()
        hands.pick(ATLAS.project)
        hands.remove()
        hands.settle("wiped")
    return hands.timeline


def insertions(first: Timeline, later: Timeline) -> list[Row]:
    """Return what a card costs a box that waits for one.

    Beside it stands the same cold and one after another: the way to the centre, then the first card since power-on,
    inserted as soon as the box asks for one.
    """
    desktop, asked = f"screen: {sight.desktop(ATLAS.project)}", "screen: finger"
    cold = first.between("agent-start", "attested") + first.between(INSERTED, desktop)
    to_desktop = statistics.median(later.between(INSERTED, desktop, number) for number in range(VISITS))
    to_finger = statistics.median(later.between(INSERTED, asked, number) for number in range(VISITS))
    return [
        Row(f"card in to desktop, finger at once, median of {VISITS}", to_desktop, "cold", cold, 1 / 3, 1 / 5),
        Row(
            f"card in to the question for a finger, median of {VISITS}",
            to_finger,
            "the first",
            first.between(INSERTED, asked),
        ),
    ]


def wipe_rows(console: str) -> list[Row]:
    """Return the 99th percentile of all removals that the agent noted on the console; Unexpected if there is none.

    Its clock starts when PC/SC tells of the removal; the picture is gone when the client is dead.
    """
    noted = [[float(text) / 1000 for text in found.groups()] for found in WIPED.finditer(console)]
    if not noted:
        raise Unexpected("the box noted no removal on its console")
    gone, wiped = (sorted(column) for column in zip(*noted, strict=True))
    place, among = math.ceil(0.99 * len(noted)) - 1, f"99th percentile of {len(noted)}"
    return [
        Row(f"card out to picture gone, {among}", gone[place], must=0.1, aim=0.03),
        Row(f"card out to keys wiped, {among}", wiped[place], must=0.1),
        Row("card out to picture gone, median", gone[len(gone) // 2]),
        Row("card out to keys wiped, median", wiped[len(wiped) // 2]),
    ]


def phases(timeline: Timeline) -> list[Row]:
    """Return each step of the timeline as a row, without comparison."""
    marks = timeline.ordered()
    return [Row(f"{one.name} -> {two.name}", two.seconds - one.seconds) for one, two in itertools.pairwise(marks)]


def boot_empty_init(lab: Lab) -> float:
    """Return the seconds from power-on to an init that does nothing, with the same firmware, kernel, initrd and TPM."""
    image: BuiltImage = build_image(BuildRequest(output=cache_folder() / "image-production"))
    with tempfile.TemporaryDirectory(prefix=work_prefix("bench")) as name:
        work = Path(name)
        disk = with_empty_init(image, SigningKey.named(development_keys(), "db"), work / "empty.raw")
        spec = machine_spec(
            dataclasses.replace(image, disk=disk), lab, work / "m", copy_state(development_tpm(), work / "tpm")
        )
        with Machine(spec) as machine:
            machine.wait_console(EMPTY_INIT_RUNS, 240)
            return time.monotonic() - machine.started
