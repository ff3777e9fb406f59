"""What the agent says on its standard output (journal and console): phases, states, refusals. Never a secret (S8)."""

from __future__ import annotations

import sys
import time

from sdbox.protocol.reasons import Refusal


def phase(name: str) -> None:
    """Say that a phase was reached, in seconds since power-on as the kernel counts them."""
    _say(f"sdbox-phase {name} {time.clock_gettime(time.CLOCK_BOOTTIME):.3f}")


def state(name: str) -> None:
    _say(f"sdbox-state {name}")


def refused(code: str) -> None:
    _say(f"sdbox-refused {code}")


def note(text: str) -> None:
    """A line for whoever looks into a refusal; the caller vouches that there is no secret and no project in it."""
    _say(f"sdbox-note {text}")


def explain(refusal: Refusal) -> None:
    """Note a refusal's detail, which is for the log by its contract."""
    note(str(refusal))


def broken(error: BaseException) -> None:
    """Note what nobody expected: its kind and its place, no value of any variable (S8); a refusal in its own words."""
    note(str(error) if isinstance(error, Refusal) else f"broken: {type(error).__name__} in {_where(error)}")


def _where(error: BaseException) -> str:
    """Return file and line of the innermost frame: enough to find it."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
