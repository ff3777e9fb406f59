"""SoftHSM tokens, and programs, for the tests of cards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sdbox.bench.softtoken import PIN, make_token
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import FilledContainer


def make_softhsm_token(folder: Path, containers: Sequence[FilledContainer], pin: str = PIN) -> None:
    """Make the token `sdbox` with `containers`, and point SOFTHSM2_CONF at it."""
    os.environ["SOFTHSM2_CONF"] = str(make_token(variant_named("softhsm"), containers, folder, pin))


def run(*command: str, seconds: float = 20.0, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=check)
