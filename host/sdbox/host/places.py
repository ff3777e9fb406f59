"""Where the build host keeps what is made once. Nothing of it is in the repository."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Things that can be made again: trees, images, saved machines. `SDBOX_CACHE`, else /var/cache/sdbox."""
    return Path(os.environ.get("SDBOX_CACHE", "/var/cache/sdbox"))


def state_folder() -> Path:
    """Things that can not: development keys, certificates. `SDBOX_STATE`, else /var/lib/sdbox."""
    return Path(os.environ.get("SDBOX_STATE", "/var/lib/sdbox"))
