"""Parsers that break their contract, for the fuzzer to find: `python -m tests.service.fuzz_bad NAME OPTIONS`."""

from __future__ import annotations

import sys
import time

from sdbox.bench.fuzz import Target
from sdbox.bench.fuzz_child import fuzz

_kept: list[bytes] = []


def raises(data: bytes) -> None:
    if data.startswith(b"SD"):
        raise KeyError("outside the contract")


def hangs(data: bytes) -> None:
    if data.startswith(b"SD"):
        time.sleep(60)


def grows(data: bytes) -> None:
    _kept.append(data[:1] * (4 << 20))


BAD = {"raises": raises, "hangs": hangs, "grows": grows}

if __name__ == "__main__":
    fuzz(Target(sys.argv[1], BAD[sys.argv[1]], (ValueError,)), sys.argv[2:])
