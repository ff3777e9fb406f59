"""The tools tree: a pinned Debian 13 with the programs of the build and the bench, the same on any host.

It is entered with bubblewrap: own mount namespace, nothing to unmount afterwards, and the program dies with its parent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sdbox.host.debian import SUITE, install_tree
from sdbox.host.making import TOOLS_ROOM, make_once
from sdbox.host.places import cache_folder

PACKAGES = (
    "cryptsetup-bin", "dnsmasq-base", "dosfstools", "erofs-utils", "freerdp3-shadow-x11", "freerdp3-x11", "gcc",
    "libc6-dev", "iproute2", "kmod", "cpio", "libtss2-dev", "libpcsclite-dev", "mtools", "openssl", "ovmf",
    "pkg-config", "python3-dev", "python3-pip", "python3-venv", "qemu-system-x86", "qemu-utils", "sbsigntool",
    "swtpm", "swtpm-tools", "swig", "systemd-boot-efi", "systemd-repart", "systemd-ukify", "tigervnc-viewer",
    "tpm2-tools", "winpr3-utils", "wireguard-go", "wireguard-tools", "x11-xserver-utils", "xterm", "xvfb", "zstd",
)  # fmt: skip


def tools_tree() -> Path:
    """Return where the tools tree of this package list is, whether or not it has been made."""
    digest = hashlib.sha256("\n".join((SUITE, *PACKAGES)).encode()).hexdigest()[:16]
    return cache_folder() / f"tools-{digest}"


def ensure_tools_tree() -> Path:
    """Return the tools tree, made by mmdebstrap on first use; CanNotMake says what to do if that fails."""
    tree = tools_tree()
    make_once(tree, _install, lock=cache_folder() / "tools.lock", room=TOOLS_ROOM)
    return tree


def _install(tree: Path) -> None:
    install_tree(tree, PACKAGES, "--variant=apt", env={"LC_ALL": "C.UTF-8"})


def tools_command(argv: Sequence[str], *, binds: Sequence[Path] = ()) -> list[str]:
    """Return the command that runs `argv` in the tools tree, with the `binds` writable under their own paths."""
    command = ["bwrap", "--die-with-parent", "--bind", str(ensure_tools_tree()), "/", "--dev-bind", "/dev", "/dev"]
    command += ["--proc", "/proc", "--ro-bind", "/sys", "/sys", "--tmpfs", "/run", "--tmpfs", "/tmp"]  # noqa: S108 - inside the tree
    for path in binds:
        command += ["--bind", str(path), str(path)]
    return [*command, *argv]
