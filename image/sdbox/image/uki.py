"""The unified kernel image: kernel, initrd, command line and os-release in one signed PE file (UAPI.5)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sdbox.image.command import run_tool

ADDON_STUB = "/usr/lib/systemd/boot/efi/addonx64.efi.stub"


@dataclass(frozen=True, slots=True)
class UkiParts:
    """What goes into the image, all by path but for the command line."""

    kernel: Path
    initrd: Path
    os_release: Path
    cmdline: str


def make_unsigned_uki(parts: UkiParts, output: Path) -> None:
    """Write the UKI of `parts`, not signed yet: variants differ in the signature alone."""
    folder = output.parent
    command = ["ukify", "build", f"--linux={parts.kernel}", f"--initrd={parts.initrd}", f"--cmdline={parts.cmdline}"]
    command += [f"--os-release=@{parts.os_release}", "--no-sign-kernel", f"--output={output}"]
    binds = sorted({folder, *(path.parent for path in (parts.kernel, parts.initrd, parts.os_release))})
    run_tool("unified kernel image", command, binds=binds)


def make_unsigned_addon(output: Path, *, cmdline: str = "", initrd: Path | None = None) -> None:
    """Write a kernel add-on (systemd-stub(7)) that brings kernel words, or one more initrd, or both."""
    words = [f"--cmdline={cmdline}"] if cmdline else []
    files = [f"--section=.initrd:@{initrd}"] if initrd else []
    binds = sorted({output.parent, *([initrd.parent] if initrd else [])})
    run_tool(
        "kernel add-on", ["ukify", "build", f"--stub={ADDON_STUB}", *words, *files, f"--output={output}"], binds=binds
    )


def compress_initrd(archive: Path, output: Path) -> None:
    """Compress for loading time: each MB costs a quarter second through the firmware."""
    folder = output.parent
    copy = folder / "initrd.cpio"
    shutil.copyfile(archive, copy)
    run_tool(
        "compressed initrd",
        ["zstd", "-q", "-19", "--single-thread", "-f", str(copy), "-o", str(output)],
        binds=[folder],
    )
    copy.unlink()
