"""Names of temporary folders, with their owner in it: what a killed process left can be told from what is in use."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

OWNED = re.compile(r"^sdbox-[a-z]+-(?P<pid>\d+)-")


def work_prefix(kind: str) -> str:
    """Return how the name of a temporary folder of this process begins; `kind` is one word."""
    return f"sdbox-{kind}-{os.getpid()}-"


def remove_abandoned(folder: Path) -> list[str]:
    """Remove from `folder` the work folders whose owner is dead; return their names."""
    found = [(path, OWNED.match(path.name)) for path in folder.iterdir()]
    abandoned = [path for path, match in found if match and not runs(int(match["pid"]))]
    for path in abandoned:
        shutil.rmtree(path)
    return [path.name for path in abandoned]


def runs(pid: int) -> bool:
    """Whether there is a process `pid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
