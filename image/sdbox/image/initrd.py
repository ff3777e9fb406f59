"""Our initrd: one static program, the modules it loads, and the list that says which device wants which."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sdbox.host.tools import tools_tree
from sdbox.image.cache import cached
from sdbox.image.command import run_tool
from sdbox.image.fingerprint import Part
from sdbox.image.kernel_modules import aliases_of, module_name, parse_modules_dep, unpacked
from sdbox.image.source import Source

COMPILE = ("gcc", "-static", "-Os", "-s", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation")
HARDENING = ("-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-Wl,-z,noexecstack,--build-id=none")
MOUNT_POINTS = ("dev", "proc", "root", "sys", "modules")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder of the archive."""

    name: str
    mode: int
    data: bytes = b""


def cpio_archive(entries: Iterable[Entry]) -> bytes:
    """Return a newc archive (kernel: Documentation/driver-api/early-userspace/buffer-format.rst): no times."""
    body = b"".join(_record(number, entry) for number, entry in enumerate((*entries, Entry("TRAILER!!!", 0)), start=1))
    return body + b"\0" * (-len(body) % 512)


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + b"\0" * (-len(head) % 4) + entry.data + b"\0" * (-len(entry.data) % 4)


def ensure_programs(source: Source) -> Path:
    """Return a folder with our static programs: `init` for the initrd, `empty-init` to measure against."""
    folders = {"init": source.image / "initrd", "empty-init": source.image / "empty-init"}
    parts: list[Part] = [*folders.values(), tools_tree().name, *COMPILE, *HARDENING]
    return cached("programs", parts, lambda out: _compile_all(folders, out))


def _compile_all(folders: dict[str, Path], out: Path) -> None:
    for name, folder in folders.items():
        _compile(name, folder, out)


def _compile(name: str, folder: Path, out: Path) -> None:
    work = out / f"{name}.d"
    shutil.copytree(folder, work)  # compiled in place, so that no path of this machine reaches the program
    names = [file.name for file in sorted(work.glob("*.c"))]
    run_tool(f"program {name}", [*COMPILE, *HARDENING, "-o", f"../{name}", *names], binds=[out], cwd=work)


def module_list(words: Iterable[str], dep: str, alias: str) -> tuple[list[str], str]:
    """Return the module files of the initrd and its modules.conf (format: image/initrd/modules.c)."""
    listed = tuple(words)
    index = parse_modules_dep(dep)
    always = [word.removeprefix("+") for word in listed if word.startswith("+")]
    devices = [word for word in listed if not word.startswith("+")]
    lines = [f"! {' '.join(_stored(file) for file in index.closure(always))}"]
    for pattern, module in aliases_of(alias, devices):
        lines.append(f"{pattern} {' '.join(_stored(file) for file in index.closure([module]))}")
    return index.closure([*always, *devices]), "\n".join(lines) + "\n"


def _stored(file: str) -> str:
    return f"{module_name(file)}.ko"


def initrd_archive(program: Path, words: Iterable[str], modules: Path) -> bytes:
    """Return the uncompressed initrd for the kernel whose modules are in `modules`."""
    dep, alias = ((modules / name).read_text(encoding="utf-8") for name in ("modules.dep", "modules.alias"))
    files, conf = module_list(words, dep, alias)
    return cpio_archive(_entries(program, {_stored(file): unpacked(modules / file) for file in files}, conf))


def _entries(program: Path, modules: dict[str, bytes], conf: str) -> Iterator[Entry]:
    for name in MOUNT_POINTS:
        yield Entry(name, stat.S_IFDIR | 0o755)
    yield Entry("init", stat.S_IFREG | 0o755, program.read_bytes())
    yield Entry("modules.conf", stat.S_IFREG | 0o644, conf.encode())
    for name, data in sorted(modules.items()):
        yield Entry(f"modules/{name}", stat.S_IFREG | 0o644, data)
