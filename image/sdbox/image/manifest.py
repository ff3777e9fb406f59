"""manifest.json: what is in an image, for people and for updates. Equal images have equal manifests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from sdbox.image.basetree import Package
from sdbox.image.request import BuildRequest

LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def locked_versions(lock: str) -> dict[str, str]:
    """Return name and version of every package of a lock file."""
    return {found[1]: found[2] for found in LOCKED.finditer(lock)}


def manifest_text(
    request: BuildRequest, root_hash: str, files: Mapping[str, Path], *, packages: tuple[Package, ...], lock: str
) -> str:
    """Return manifest.json of an image made of `files`."""
    content = {
        "version": 1,
        "image_id": "sdbox",
        "image_version": str(request.image_version),
        "profile": request.profile.value,
        "producer": request.producer.value,
        "root_hash": root_hash,
        "files": {
            name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in sorted(files.items())
        },
        "debian_packages": [asdict(package) for package in packages],
        "python_packages": locked_versions(lock),
    }
    return json.dumps(content, indent=1) + "\n"
