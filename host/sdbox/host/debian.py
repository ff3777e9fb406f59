"""Trees of Debian packages by mmdebstrap, and what to do when the archive does not give them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdbox.host.making import CanNotMake
from sdbox.host.places import cache_folder

SUITE = "trixie"
# In namespaces of its own, so that all of it ends with whoever asked for the tree and no mount is left inside.
CONTAINED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child")


def install_tree(tree: Path, packages: Sequence[str], *options: str, env: Mapping[str, str]) -> None:
    """Install `packages`, with what they depend on, into the empty or absent folder `tree`; CanNotMake otherwise."""
    log = cache_folder() / "logs" / f"mmdebstrap-{tree.name.removesuffix('.partial')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*CONTAINED, "mmdebstrap", "--mode=root", f"--include={','.join(packages)}", *options, SUITE, str(tree)]
    with log.open("wb") as file:
        code = subprocess.run(
            command, env={**os.environ, **env}, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = next((line for line in lines if line.startswith(("E:", "unshare:"))), (lines or ["no output"])[-1])
        raise CanNotMake(
            f"mmdebstrap: {said.strip()}; check the network, a proxy and that Debian's archive has {SUITE} "
            f"(all of it in {log})"
        )
