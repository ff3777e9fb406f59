"""Writes to a virtual disk are counted (the system tests use it for S9)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sdbox.host.tools import tools_command
from sdbox.qemu.overlay import make_overlay, written_bytes

pytestmark = pytest.mark.root
CLUSTER = 65536


def test_one_written_byte_is_seen(tmp_path: Path) -> None:
    disk, overlay = tmp_path / "disk", tmp_path / "disk.qcow2"
    disk.write_bytes(bytes(4 * CLUSTER))
    make_overlay(disk, overlay)
    assert written_bytes(disk, overlay) == 0
    subprocess.run(tools_command(["qemu-io", "-c", "write -P 1 70000 1", str(overlay)], binds=[tmp_path]), check=True)
    assert written_bytes(disk, overlay) == CLUSTER
    assert disk.read_bytes() == bytes(4 * CLUSTER)
