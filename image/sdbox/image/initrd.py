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


def ensure_init_program(source: Source) -> Path:
    """Return the compiled /init, a static program."""
    folder = source.image / "initrd"
    return cached("init", (folder, tools_tree().name, *COMPILE, *HARDENING), lambda out: _compile(folder, out)) / "init"


def _compile(folder: Path, out: Path) -> None:
    sources = sorted(folder.glob("*.[ch]"))
    for file in sources:  # compiled in place, so that no path of this machine reaches the program
        shutil.copy(file, out)
    names = [file.name for file in sources if file.suffix == ".c"]
    run_tool("initrd program", ["gcc", *COMPILE[1:], *HARDENING, "-o", "init", *names], binds=[out], cwd=out)


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
