"""The disk: ESP with the UKI as the only boot loader, root, hash tree. Written offline, without loop devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from sdbox.image.command import run_tool
from sdbox.image.verity import VerityRoot

ESP_SIZE_MIB = 64
SECTOR = 512  # systemd-repart's default of 4096 gives a small FAT32 that OVMF does not read
LOADER = "::/EFI/BOOT/BOOTX64.EFI"
BESIDE = f"{LOADER}.extra.d"
VOLUME_ID = "5db05db0"


def make_disk(uki: Path, root: VerityRoot, output: Path) -> None:
    """Write the GPT disk with `uki` and `root`; the same inputs give the same bytes."""
    folder = output.parent
    esp, definitions = folder / "esp.img", folder / "repart.d"
    make_esp(uki, esp)
    definitions.mkdir(exist_ok=True)
    for name, text in partition_files(esp, root).items():
        (definitions / name).write_text(text, encoding="utf-8")
    output.unlink(missing_ok=True)
    command = [
        "systemd-repart",
        "--offline=yes",
        "--empty=create",
        "--size=auto",
        f"--sector-size={SECTOR}",
        "--dry-run=no",
    ]
    command += [
        f"--seed={UUID(root.root_hash[:32])}",
        f"--definitions={definitions}",
        "--no-pager",
        "--no-legend",
        str(output),
    ]
    run_tool("disk", command, binds=sorted({folder, root.data.parent}))
    esp.unlink()


def make_esp(uki: Path, esp: Path) -> None:
    """Write a FAT32 file system with the UKI where firmware looks without any boot entry (UEFI 2.10, 3.5.1.1)."""
    folders = sorted({esp.parent, uki.parent})
    esp.unlink(missing_ok=True)
    command = [
        "mkfs.vfat",
        "--invariant",
        "-F",
        "32",
        "-S",
        str(SECTOR),
        "-i",
        VOLUME_ID,
        "-n",
        "SDBOX",
        "-C",
        str(esp),
    ]
    run_tool("EFI system partition", [*command, str(ESP_SIZE_MIB * 1024)], binds=folders)
    run_tool("EFI folders", ["mmd", "-i", str(esp), "::/EFI", "::/EFI/BOOT"], binds=folders)
    put_loader(uki, esp, offset=0)


def put_loader(uki: Path, image: Path, *, offset: int) -> None:
    """Copy `uki` over the loader in the FAT that starts at byte `offset` of `image`."""
    target = f"{image}@@{offset}" if offset else str(image)
    run_tool("EFI loader", ["mcopy", "-o", "-i", target, str(uki), LOADER], binds=sorted({image.parent, uki.parent}))


def put_beside_loader(files: Sequence[Path], image: Path, *, offset: int) -> None:
    """Copy `files` where systemd-stub looks for add-ons, credentials and extensions (systemd-stub(7), .extra.d)."""
    target = f"{image}@@{offset}" if offset else str(image)
    run_tool("folder beside the loader", ["mmd", "-D", "s", "-i", target, BESIDE], binds=[image.parent])
    argv = ["mcopy", "-o", "-i", target, *map(str, files), BESIDE]
    run_tool("files beside the loader", argv, binds=sorted({image.parent, *(file.parent for file in files)}))


def partition_files(esp: Path, root: VerityRoot) -> dict[str, str]:
    """Return the definitions of the partitions (repart.d(5)), in disk order."""
    return {
        "10-esp.conf": _partition("esp", esp),
        "20-root.conf": _partition("root-x86-64", root.data, root.data_uuid),
        "30-verity.conf": _partition("root-x86-64-verity", root.hashes, root.hashes_uuid),
    }


def _partition(kind: str, content: Path, identity: UUID | None = None) -> str:
    lines = ["[Partition]", f"Type={kind}", f"CopyBlocks={content}", f"Label=sdbox-{kind.removesuffix('-x86-64')}"]
    lines += [f"UUID={identity}", "ReadOnly=yes"] if identity else []
    return "\n".join(lines) + "\n"
