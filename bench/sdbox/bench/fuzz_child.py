"""`python -m sdbox.bench.fuzz_child TARGET [OPTIONS] [FOLDER or FILE ...]`: one parser in libFuzzer's loop.

libFuzzer never gives a process back, so each target has one of its own. With the path of a file it tries that one only.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["sdbox"]):  # before anything else loads them: coverage is in their bytecode
    from sdbox.bench.fuzz import Target, targets


def fuzz(target: Target, options: list[str]) -> None:
    """Run libFuzzer with `options`; ends the process: 0 if nothing was found."""
    atheris.Setup([target.name, *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz(targets()[sys.argv[1]], sys.argv[2:])
