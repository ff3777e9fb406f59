"""Ten minutes of bent inputs (`sdbox bench fuzz`) for every parser of outside bytes, guided by what they reach."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sdbox.bench.bench_way import Row
from sdbox.bench.fuzz import targets
from sdbox.bench.fuzz_process import Broken, Effort, fuzz
from sdbox.bench.fuzz_seeds import seeds

SECONDS = 600.0


def measure_fuzz(output: Path, seconds: float = SECONDS) -> list[Row]:
    """Fuzz one parser after the other, each for its share. RuntimeError on a crash, hang or growth, with the input.

    What was reached is kept in `output` and is where the next run begins.
    """
    if importlib.util.find_spec("atheris") is None:
        raise RuntimeError("fuzz: needs atheris, which scripts/setup installs")
    names, known = list(targets()), seeds()
    share = max(1, round(seconds / len(names)))
    rows: list[Row] = []
    for name in names:
        try:
            done = fuzz(name, known.get(name, ()), output / name, Effort(seconds=share))
        except Broken as error:
            raise RuntimeError(f"fuzz: {error}") from error
        rows.append(Row(f"fuzz {name}: inputs", float(done.inputs), "seconds", float(share)))
        rows.append(Row(f"fuzz {name}: branches", float(done.branches)))
        rows.append(Row(f"fuzz {name}: most memory, MB", float(done.memory_mb)))
    return rows
