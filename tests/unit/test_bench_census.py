"""Two counts of what runs in a box: what grew is told, what shrank is not, memory has a margin."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from sdbox.bench.census import Census, Process

BEFORE = Census(programs=16, zombies=0, workers=0, agent=Process(20, 7, 33_000), pcscd=Process(13, 6, 1_400))


@dataclass(frozen=True, slots=True)
class Grown:
    after: Census
    told: str


def changed(**fields: object) -> Census:
    return msgspec.structs.replace(BEFORE, **fields)


def test_nothing_has_leaked() -> None:
    less = changed(programs=15, agent=Process(19, 6, 30_000), pcscd=Process(13, 6, 5_400))
    assert less.leaks(BEFORE, kib=4096) == []


@pytest.mark.parametrize(
    "grown",
    [
        Grown(changed(workers=1), "workers: 0 before, 1 after"),
        Grown(changed(zombies=2), "zombies: 0 before, 2 after"),
        Grown(changed(programs=17), "programs: 16 before, 17 after"),
        Grown(changed(agent=Process(21, 7, 33_000)), "agent's descriptors: 20 before, 21 after"),
        Grown(changed(pcscd=Process(13, 7, 1_400)), "pcscd's threads: 6 before, 7 after"),
        Grown(changed(pcscd=Process(13, 6, 5_500)), "pcscd's KiB: 1400 before, 5500 after"),
    ],
)
def test_each_growth_is_told(grown: Grown) -> None:
    assert grown.after.leaks(BEFORE, kib=4096) == [grown.told]
