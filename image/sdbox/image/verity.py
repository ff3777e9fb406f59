"""The root file system as two files: erofs, and the hash tree over it whose root stands for every byte."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sdbox.image.command import EPOCH, run_tool
from sdbox.image.request import ImageError

# Fixed: a fresh salt or UUID would make two builds differ. The salt only has to be there.
SALT = "5d" * 32
FILE_SYSTEM_UUID = UUID("5db0a7e1-7e0f-4b1d-9c55-0d1f6a3c2b10")
VERITY_UUID = UUID("5db0a7e1-7e0f-4b1d-9c55-0d1f6a3c2b11")
# Small clusters: a page that is read costs the unpacking and hashing of its whole cluster. 64 KiB save 9 MB and cost a
# tenth of the boot under emulation.
COMPRESSION = ("-zlz4hc,9", "-C16384")
ROOT_HASH = re.compile(r"^Root hash:\s+([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class VerityRoot:
    """`data` and `hashes` are the contents of two partitions."""

    data: Path
    hashes: Path
    root_hash: str

    @property
    def data_uuid(self) -> UUID:
        """Discoverable Partitions Specification: the root partition's UUID is the hash's first half."""
        return UUID(self.root_hash[:32])

    @property
    def hashes_uuid(self) -> UUID:
        return UUID(self.root_hash[32:])


def make_root(tree: Path, folder: Path) -> VerityRoot:
    """Write root.erofs, root.verity and root.hash of `tree` into `folder`."""
    data, hashes = folder / "root.erofs", folder / "root.verity"
    options = ["--quiet", *COMPRESSION, f"-T{EPOCH}", f"-U{FILE_SYSTEM_UUID}", "--all-time"]
    run_tool("root file system", ["mkfs.erofs", *options, str(data), str(tree)], binds=[folder, tree])
    command = ["veritysetup", "format", f"--salt={SALT}", f"--uuid={VERITY_UUID}", str(data), str(hashes)]
    found = ROOT_HASH.search(run_tool("hash tree", command, binds=[folder]))
    if found is None:
        raise ImageError("veritysetup printed no root hash")
    (folder / "root.hash").write_text(found[1], encoding="ascii")
    return VerityRoot(data, hashes, found[1])


def read_root(folder: Path) -> VerityRoot:
    """Return what `make_root` wrote into `folder`."""
    return VerityRoot(folder / "root.erofs", folder / "root.verity", (folder / "root.hash").read_text(encoding="ascii"))
