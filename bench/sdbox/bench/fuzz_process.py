"""Run one target's process: with a seed and a number of inputs it does the same again, with seconds it goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HANG_SECONDS: Final = 5
MEMORY_MB: Final = 400  # the libraries take 100
_GRACE: Final = 120.0  # seconds for the start, and for what libFuzzer does with seeds before it counts
_SHOWN: Final = 400  # bytes of an input that are printed
CHILD: Final = (sys.executable, "-m", "sdbox.bench.fuzz_child")


class Broken(Exception):
    """A parser raised something outside its contract, hung, or grew; the text has target, error and input in hex."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long: `runs` inputs from `seed`, or `seconds` (0: as many as `runs`)."""

    runs: int = -1
    seconds: int = 0
    seed: int = 0  # 0: another one each time, and printed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done: inputs tried, branches reached, and the most memory the process had, MB."""

    inputs: int
    branches: int
    memory_mb: int


def fuzz(name: str, seeds: Sequence[bytes], folder: Path, effort: Effort, child: Sequence[str] = CHILD) -> Outcome:
    """Fuzz the target `name`. Broken with the input, which is kept in `folder`; what was reached stays there too."""
    start, corpus = folder / "seeds", folder / "corpus"
    for place in (start, corpus):
        place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (start / f"{number}").write_bytes(seed)
    options = [f"-runs={effort.runs}", f"-max_total_time={effort.seconds}", f"-seed={effort.seed}"]
    options += [f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={folder}/"]
    options += ["-print_final_stats=1", str(corpus), str(start)]
    limit = effort.seconds + _GRACE
    log = folder / "log.txt"
    # The same inputs again need the same order of sets, too.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    argv = [*child, name, *options]
    try:
        with log.open("wb") as lines:
            done = subprocess.run(argv, env=environment, stdout=lines, stderr=lines, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{name}: did not end within {limit:.0f} s, see {log}") from error
    said = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        raise Broken(_complaint(name, said, folder))
    return Outcome(
        _number(said, r"number_of_executed_units: *(\d+)"), _number(said, r"DONE +cov: (\d+)"), _memory(said)
    )


def _complaint(name: str, said: str, folder: Path) -> str:
    """Return one line of what libFuzzer said, and the input."""
    found = re.findall(r"^(?:\S*(?:Error|Exception|Version)\b.*|.*ERROR: libFuzzer: .*)$", said, flags=re.MULTILINE)
    kept = [path for path in folder.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-", "leak-"))]
    inputs = "; ".join(f"{path}: {path.read_bytes()[:_SHOWN].hex()}" for path in kept)
    return f"{name}: {found[0] if found else said[-300:]}; input {inputs or 'not kept'}"


def _number(said: str, pattern: str) -> int:
    found = re.findall(pattern, said)
    return int(found[-1]) if found else 0


def _memory(said: str) -> int:
    return _number(said, r"peak_rss_mb: *(\d+)")
