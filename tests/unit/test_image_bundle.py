"""The bundle a command of the box starts from: the same modules, and nothing is compiled any more."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sdbox.image import bundle_reader, bundle_writer

PACKAGE = {
    "toy/__init__.py": "import toy.kinds\nname = toy.kinds.Kind('a', 2).word\n",
    "toy/kinds.py": """
import re
from collections import namedtuple
from dataclasses import dataclass
from typing import Optional

@dataclass(frozen=True)
class Kind:
    word: str
    number: Optional["Kind"]

Pair = namedtuple("Pair", "first second")
WORD = re.compile(r"(?P<first>[a-z\\u00e0-\\uffff]) [a-z]+", re.IGNORECASE | re.VERBOSE)
""",
    "toy/late.py": "import re\nword = re.fullmatch('(l).*', 'late')[1]\n",
}
USE = """
import sys, sdbox_bundle
seen = []
sys.addaudithook(lambda event, given: event == "compile" and seen.append(given[0]))
sdbox_bundle.use(sys.argv[1])
from re import _parser
parse, parsed = _parser.parse, []
_parser.parse = lambda text, *flags: parsed.append(text) or parse(text, *flags)
import toy
print(toy.name, toy.kinds.Kind("a", None) == toy.kinds.Kind("a", None), toy.kinds.Pair(1, 2).second, seen, parsed)
print(toy.kinds.WORD.match("\u00c9t\u00e9")["first"] == "\u00c9", toy.kinds.WORD.flags)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with the reader and a package, compiled, as the image has them."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copyfile(bundle_reader.__file__, folder / "sdbox_bundle.py")
    for name, text in PACKAGE.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    run(folder, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(folder))
    return folder


def run(site: Path, *words: str) -> str:
    command = [sys.executable, "-S", *words]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(site: Path, name: str, *withheld: str) -> Path:
    target = site.parent / name
    run(site, bundle_writer.__file__, str(target), "toy", *withheld)
    return target


def test_a_command_starts_from_its_bundle_alone_and_compiles_nothing(site: Path) -> None:
    target = write(site, "toy.modules")
    for name in ("toy/__init__.py", "toy/kinds.py"):
        (site / name).unlink()
    shutil.rmtree(site / "toy/__pycache__")
    assert run(site, "-c", USE, str(target)) == "a True 2 [] []\nTrue 98\n"


def test_what_is_not_in_the_bundle_is_found_and_compiled_as_ever(site: Path) -> None:
    target = write(site, "toy.modules")
    code = (
        "import toy.late, dataclasses; made = dataclasses.make_dataclass('Made', ['x']); print(toy.late.word, made(3))"
    )
    assert run(site, "-c", USE + code, str(target)).splitlines()[2:] == ["l Made(x=3)"]


def test_two_bundles_of_the_same_files_are_equal(site: Path) -> None:
    assert write(site, "one").read_bytes() == write(site, "two").read_bytes()


def test_what_is_withheld_is_not_in_the_bundle(site: Path) -> None:
    assert b"toy.kinds" in write(site, "one").read_bytes()
    done = subprocess.run(
        [sys.executable, bundle_writer.__file__, str(site / "two"), "toy", "toy.kinds"],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "halted" in done.stderr  # toy cannot do without it: the image build says so, not the box
