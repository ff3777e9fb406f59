"""The PC/SC service, PKCS#11 modules and interpreter that a card test meets: this host's, or the box's own.

The box's are Debian's unchanged packages of the image (debug profile: it has SoftHSM), with the locked wheels and this
checkout's code. A tree has no vpcd, so the host's is lent to it: it only needs the C library.
pcscd and its clients must come from the same place: 1.9 and 2.3 speak different protocols (4:4 and 4:5).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sdbox.image.basetree import ensure_base_tree
from sdbox.image.python_site import ensure_locked_wheels
from sdbox.image.request import Profile
from sdbox.image.source import BOX_PARTS, find_source

VPCD = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
LENT_VPCD = "/libifdvpcd.so"
PCSC_LIBRARIES = ("libpcsclite.so.1", "libpcsclite_real.so.1")
MERGED = ("bin", "lib", "lib64", "sbin")  # links into /usr since Debian 12
WAIT_FOR_CARD = """
import sys
from sdbox.smartcard.pcsc import ReaderWatch
with ReaderWatch() as watch:
    while sys.argv[1] not in watch.next_states():
        pass
"""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where commands run. `prefix` enters the place; `python` is its interpreter, which can import `sdbox`."""

    name: str
    python: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    pcscd_options: tuple[str, ...] = ()
    vpcd: str = str(VPCD)

    def has(self, path: str) -> bool:
        """Whether there is such a file here."""
        return subprocess.run([*self.prefix, "test", "-f", path], check=False).returncode == 0

    def run(self, *command: str, seconds: float = 30.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        argv = [*self.prefix, *command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=check)

    def wait_for_card(self, reader: str) -> None:
        subprocess.run([*self.python, "-c", WAIT_FOR_CARD, reader], timeout=20, check=True)


def host_stack() -> Stack:
    """Return this host's own."""
    return Stack("host", (sys.executable,))


def _box_tree() -> Path:
    return ensure_base_tree(find_source(), Profile.DEBUG) / "tree"


def box_libraries(names: Sequence[str]) -> list[Path]:
    """Return where the box's libraries of these names are."""
    return [found for name in names for found in _box_tree().glob(f"usr/lib/*/{name}")]


@cache
def box_stack(shared: Path, roots: Path) -> Stack:
    """Return the box's: `shared` is a folder seen on both sides, `roots` holds the cards' CVC roots."""
    source = find_source()
    tree = _box_tree()
    wheels = ensure_locked_wheels(source) / "site"
    prefix = ["bwrap", "--die-with-parent", "--tmpfs", "/"]
    for name in ("usr", "etc"):
        prefix += ["--ro-bind", str(tree / name), f"/{name}"]
    for name in MERGED:
        prefix += ["--symlink", f"usr/{name}", f"/{name}"]
    prefix += ["--dev-bind", "/dev", "/dev", "--proc", "/proc", "--tmpfs", "/run", "--tmpfs", "/tmp"]  # noqa: S108 - one of its own
    prefix += ["--ro-bind", str(roots), "/etc/eac/cvc", "--ro-bind", str(source.root), str(source.root)]
    prefix += ["--ro-bind", str(wheels), "/wheels", "--ro-bind", str(VPCD.resolve()), LENT_VPCD]
    prefix += ["--bind", str(shared), str(shared)]
    paths = [str(source.root / part) for part in BOX_PARTS]
    prefix += ["--setenv", "PYTHONPATH", ":".join([*paths, "/wheels"]), "--unsetenv", "VIRTUAL_ENV"]
    return Stack("box", (*prefix, "/usr/bin/python3"), tuple(prefix), ("--disable-polkit",), LENT_VPCD)
