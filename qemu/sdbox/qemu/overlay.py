"""What a machine writes goes to an overlay of its own: the image stays as it is, and the writes can be counted."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from sdbox.host.tools import tools_command


def make_overlay(disk: Path, overlay: Path) -> None:
    """Make the empty overlay of a raw image; CalledProcessError if qemu-img can't."""
    options = ["-q", "-f", "qcow2", "-F", "raw", "-b", str(disk.resolve()), str(overlay)]
    subprocess.run(tools_command(["qemu-img", "create", *options], binds=[disk.resolve(), overlay.parent]), check=True)


def written_bytes(disk: Path, overlay: Path) -> int:
    """Return how many bytes of the disk were written since `make_overlay`, in whole clusters. The machine is off."""
    argv = tools_command(["qemu-img", "map", "--output=json", str(overlay)], binds=[disk.resolve(), overlay.parent])
    extents = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    return sum(extent["length"] for extent in extents if extent["depth"] == 0)
