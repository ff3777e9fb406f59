"""Telling the namespaces of killed labs from those of labs that run."""

from __future__ import annotations

import os
import subprocess
import sys

from PIL import Image

from sdbox.bench.bubble import ATLAS, BENCH_BUBBLES, BOREAL, name_picture
from sdbox.bench.network import leftovers


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_only_namespaces_of_dead_owners_are_leftovers() -> None:
    dead, alive = f"sdb{dead_pid()}a-campus", f"sdb{os.getpid()}a-campus"
    assert leftovers([dead, alive, "campus", "sdb-x", f"other{dead_pid()}a-campus"]) == [dead]


def test_bubbles_share_no_address_and_no_colour() -> None:
    for key in ("project", "number", "colour", "server", "network", "tunnel_port", "interface"):
        assert len({getattr(bubble, key) for bubble in BENCH_BUBBLES}) == len(BENCH_BUBBLES)
    assert (ATLAS.server, BOREAL.endpoint) == ("10.64.1.1", "203.0.113.10:51822")


def test_the_name_is_large_but_leaves_most_of_the_colour() -> None:
    box = name_picture("ATLAS").getbbox()
    assert box is not None
    assert box[2] - box[0] > 400
    ink = name_picture("ATLAS").convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(ink, int)
    assert 0 < ink < 40
