"""A short, repeatable run of the bench's fuzzer over every parser; ten minutes of it are `sdbox bench fuzz`."""

from __future__ import annotations

import random
import time

import pytest

from sdbox.bench import fuzz
from sdbox.bench.bench_fuzz import seeds
from sdbox.bench.fuzz import Broken, Hang, Target, bend, run, targets

TARGETS = targets(seeds())
INPUTS = 400


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("seed", range(3))
def test_a_parser_returns_or_refuses(target: Target, seed: int) -> None:
    run(target, random.Random(seed), INPUTS)


def test_the_seeds_are_taken_as_they_are() -> None:
    for target in TARGETS:
        for data in target.seeds if target.seeds != (b"",) else ():
            target.parse(data)


def test_the_same_seed_bends_the_same_way() -> None:
    data = bytes(range(200))
    assert [bend(data, random.Random(7)) for _ in range(2)] == [bend(data, random.Random(7))] * 2


def test_the_fuzzer_notices_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes) -> None:
        raise KeyError(len(data))

    with pytest.raises(Broken, match="bad: KeyError"):
        run(Target("bad", fails, (ValueError,), (b"x",)), random.Random(1), 1)
    monkeypatch.setattr(fuzz, "HANG_SECONDS", 0.05)
    with pytest.raises(Hang, match="slow"):
        run(Target("slow", lambda _: time.sleep(5), (ValueError,), (b"x",)), random.Random(1), 1)
