"""A short run of the bench's fuzzer over every parser, the same each time; ten minutes of it are `sdbox bench fuzz`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sdbox.bench.fuzz import targets
from sdbox.bench.fuzz_process import Broken, Effort, fuzz
from sdbox.bench.fuzz_seeds import seeds

TARGETS = targets()
SEEDS = seeds()
SHORT = Effort(runs=1000, seed=34)
BAD = (sys.executable, "-m", "tests.service.fuzz_bad")


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_returns_or_refuses(name: str, tmp_path: Path) -> None:
    done = fuzz(name, SEEDS.get(name, ()), tmp_path, SHORT)
    assert done.inputs >= SHORT.runs
    assert done.branches > 1, "nothing was instrumented, or nothing reached"


def test_the_seeds_are_taken_as_they_are() -> None:
    assert set(SEEDS) == set(TARGETS)
    for name, inputs in SEEDS.items():
        for data in inputs if name not in {"authenticator", "notes"} else ():  # no channel's secrets; half a log
            TARGETS[name].parse(data)


def test_the_same_seed_does_the_same(tmp_path: Path) -> None:
    first, second = (fuzz("quote", SEEDS["quote"], tmp_path / str(turn), SHORT) for turn in range(2))
    assert (first.inputs, first.branches) == (second.inputs, second.branches)
    names = [{path.name for path in (tmp_path / str(turn) / "corpus").iterdir()} for turn in range(2)]
    assert names[0] == names[1]


@pytest.mark.parametrize(("bad", "said"), [("raises", "KeyError"), ("hangs", "timeout"), ("grows", "out-of-memory")])
def test_what_is_looked_for_is_found_and_kept(bad: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Broken, match=f"{bad}: .*{said}") as caught:
        fuzz(bad, [b"SD"], tmp_path, Effort(runs=20_000, seed=1), BAD)
    (kept,) = (path for path in tmp_path.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-")))
    assert f"{kept}: {kept.read_bytes().hex()}" in str(caught.value)
