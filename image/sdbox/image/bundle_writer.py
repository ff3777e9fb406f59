"""Run by the box's interpreter in its tree while the image is built: writes the bundle of one command.

Arguments: the bundle's file, the command's module, what may not be imported in it. See `bundle_reader.py`.
"""

from __future__ import annotations

import importlib
import marshal
import sys
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False  # nothing is imported here that makes a named tuple before `main` looks
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import Any

PYC_HEADER = 16  # PEP 552
DETERMINISTIC = 2  # from version 3 on marshal writes what happens to be shared in this process


class Bundle:
    """The two indices and the code behind them, as `bundle_reader` wants them."""

    def __init__(self) -> None:
        self.modules: dict[str, tuple[str, str | None, int, int]] = {}
        self.texts: dict[tuple[str | int, str | bytes], tuple[int, int]] = {}
        self._body = bytearray()

    def add_modules(self, loaded: Iterable[tuple[str, object]]) -> None:
        """Take those modules that came from compiled source files."""
        for name, module in loaded:
            spec = getattr(module, "__spec__", None)
            if spec is not None and spec.name == name and type(spec.loader) is SourceFileLoader:
                folder = next(iter(spec.submodule_search_locations or ()), None)
                place = self._add(_read(spec.cached)[PYC_HEADER:])
                self.modules[name] = (spec.origin, folder, *place)

    def add_texts(self, compiled: dict[tuple[str | int, str | bytes], CodeType]) -> None:
        """Take what was compiled from text; sorted, as some of it is made by going through sets."""
        for text, code in sorted(compiled.items(), key=lambda each: repr(each[0])):
            self.texts[text] = self._add(marshal.dumps(code, DETERMINISTIC))

    def add_patterns(self, seen: dict[tuple[int, str | bytes], tuple[Any, ...]]) -> None:
        """Take regular expressions: what `_sre.compile` was given for each, besides its text."""
        for text, (flags, code, groups, names, numbers) in sorted(seen.items(), key=repr):
            given = (int(flags), [int(word) for word in code], groups, dict(names), numbers)
            self.texts[text] = self._add(marshal.dumps(given, DETERMINISTIC))

    def _add(self, code: bytes) -> tuple[int, int]:
        begin = len(self._body)
        self._body += code
        return begin, len(self._body)

    def data(self) -> bytes:
        """Return the file."""
        index = marshal.dumps((self.modules, self.texts), DETERMINISTIC)
        return len(index).to_bytes(4, "little") + index + self._body


class Watched:
    """`_sre` for `re._compiler`, watching what is compiled. `seen`: flags asked for and text to what was given."""

    def __init__(self, texts: Any) -> None:  # noqa: ANN401 - the reader's Texts, as the box has them
        self._compiler = importlib.import_module("re._compiler")
        self._sre = self._compiler._sre  # noqa: SLF001
        self._texts = texts
        self._given: tuple[Any, ...] = ()
        self.seen: dict[tuple[int, str | bytes], tuple[Any, ...]] = {}
        self._compiler.__dict__.update(_sre=self, compile=self.pattern)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._sre, name)

    def pattern(self, text: str | bytes, flags: int = 0) -> object:
        made = self._texts.pattern(text, flags)
        self.seen[int(flags), text] = self._given
        return made

    def compile(self, text: str | bytes, *given: Any) -> object:  # noqa: ANN401
        self._given = given
        return self._sre.compile(text, *given)


def main(target: str, module: str, *withheld: str) -> None:
    """Import `module` as the command does, and write what that took to `target`."""
    texts = importlib.import_module("sdbox_bundle").Texts({}, memoryview(b""))
    texts.stand_in()
    watched = Watched(texts)
    sys.modules.update(dict.fromkeys(withheld))  # type: ignore[arg-type]  # None: an import of it fails
    importlib.import_module(module)
    bundle = Bundle()
    bundle.add_modules(list(sys.modules.items()))
    bundle.add_texts(texts.compiled)
    bundle.add_patterns(watched.seen)
    with open(target, "wb") as file:  # noqa: PTH123 - as above
        file.write(bundle.data())


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        return file.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
