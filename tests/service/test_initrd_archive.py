"""The initrd's archive, unpacked by somebody else's program: cpio of the tools tree."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from sdbox.host.tools import tools_command
from sdbox.image.initrd import Entry, cpio_archive

pytestmark = pytest.mark.root
ENTRIES = (
    Entry("dev", stat.S_IFDIR | 0o755),
    Entry("init", stat.S_IFREG | 0o755, b"program"),
    Entry("odd", stat.S_IFREG | 0o644, b"x"),
)


def test_cpio_unpacks_the_archive(tmp_path: Path) -> None:
    command = ["cpio", "--extract", "--quiet", "--directory", str(tmp_path)]
    done = subprocess.run(
        tools_command(command, binds=[tmp_path]), input=cpio_archive(ENTRIES), capture_output=True, check=True
    )
    assert done.stderr == b""
    assert (tmp_path / "init").read_bytes() == b"program"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "odd").read_bytes() == b"x"
    assert (tmp_path / "dev").is_dir()
