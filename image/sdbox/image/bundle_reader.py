"""On the box (as `sdbox_bundle`): starts a command from one file instead of looking for hundreds.

Finding a module costs Python half a dozen system calls and as many functions, and reading it as much again. And the
library compiles text while it is imported: the methods of each dataclass and named tuple, annotations that are text,
regular expressions. A bundle has what one command imports, in the order in which it does, and what is compiled
meanwhile. What is not in it is found, or compiled, as ever. `bundle_writer.py` makes it while the image is built.

Its form: the length of the index (4 bytes, little endian); the index (marshal): modules, name to file, package folder
or None, begin and end; texts, kind and text to begin and end; then all compiled code.
"""

from __future__ import annotations

import _sre  # type: ignore[import-not-found]  # no stub: re's own engine
import builtins
import marshal
import mmap
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType

TYPE_CHECKING = False  # typing itself is in the bundle
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping
    from typing import Any

    Module = tuple[str, str | None, int, int]
    Text = tuple[str | int, str | bytes]  # "exec", "eval", or the flags of a regular expression; text

HEAD = 4


class _Loader(SourceFileLoader):
    """A module whose code is at hand; for everything else (its source, files beside it) it is that of a plain file."""

    def __init__(self, name: str, path: str, code: memoryview) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - importlib's
        return _code(self._code)


class Modules:
    """A finder for `sys.meta_path`."""

    def __init__(self, index: Mapping[str, Module], body: memoryview) -> None:
        self._index = index
        self._body = body

    def find_spec(self, name: str, _path: object = None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Return how `name` is loaded, None if it is not in the bundle (importlib.abc.MetaPathFinder)."""
        entry = self._index.get(name)
        if entry is None:
            return None
        file, folder, begin, end = entry
        loader = _Loader(name, file, self._body[begin:end])
        spec = ModuleSpec(name, loader, origin=file, is_package=folder is not None)
        spec.has_location = True
        if folder is not None:
            spec.submodule_search_locations = [folder]
        return spec


class Texts:
    """Stands in for `compile`, `exec` and `eval` in the library's modules: the same text gives the same code."""

    def __init__(self, index: Mapping[Text, tuple[int, int]], body: memoryview) -> None:
        self._index = index
        self._body = body
        self.compiled: dict[Text, CodeType] = {}  # what was not in the bundle
        self._compile_pattern: Callable[[str | bytes, int], re.Pattern[str]] | None = None

    def code(self, text: str, mode: str) -> CodeType:
        """Return `text` compiled, from the bundle if it is there."""
        place = self._index.get((mode, text))
        if place is not None:
            return _code(self._body[place[0] : place[1]])
        # Not as this module is compiled: the three below have no `from __future__ import annotations`.
        code: CodeType = builtins.compile(text, "<string>", mode, dont_inherit=True)
        self.compiled[mode, text] = code
        return code

    def pattern(self, text: str | bytes, flags: int = 0) -> re.Pattern[str]:
        """Return a regular expression, from the bundle if it is there (re._compiler.compile)."""
        place = self._index.get((int(flags), text)) if isinstance(text, str | bytes) else None
        if place is not None:
            given = marshal.loads(self._body[place[0] : place[1]])  # noqa: S302 - as above
            made: re.Pattern[str] = _sre.compile(text, *given)
            return made
        if self._compile_pattern is None:
            raise RuntimeError("asked before it stands in")
        return self._compile_pattern(text, flags)

    def stand_in(self) -> None:
        """From here on, what is compiled while the library is imported comes from here."""
        import collections  # noqa: PLC0415 - each before the next: their own imports make named tuples

        _replace(collections, "eval", lambda text, scope: eval(self.code(text, "eval"), scope))  # noqa: S307
        import re  # noqa: PLC0415

        compiler: Any = re._compiler  # type: ignore[attr-defined]  # noqa: SLF001
        self._compile_pattern = compiler.compile
        _replace(compiler, "compile", self.pattern)
        import typing  # noqa: PLC0415

        _replace(typing, "compile", lambda text, _file, mode: self.code(text, mode))
        import dataclasses  # noqa: PLC0415

        _replace(dataclasses, "exec", lambda text, scope, names: exec(self.code(text, "exec"), scope, names))  # noqa: S102


def _replace(module: ModuleType, name: str, function: object) -> None:
    """Let `module` see `function` where it means `name`, a built-in mostly."""
    module.__dict__[name] = function


def _code(data: memoryview) -> CodeType:
    code: CodeType = marshal.loads(data)  # noqa: S302 - part of the verified root file system, as a .pyc is
    return code


def use(path: str) -> None:
    """Import from the bundle at `path` first."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib is in the bundle
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    begin = HEAD + int.from_bytes(whole[:HEAD], "little")
    modules, texts = marshal.loads(whole[HEAD:begin])  # noqa: S302 - as above
    sys.meta_path.insert(0, Modules(modules, whole[begin:]))
    Texts(texts, whole[begin:]).stand_in()
