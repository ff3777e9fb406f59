"""Size and place: what docs/contributing.md promises about files, functions and folders."""

from __future__ import annotations

import ast

import pytest

from tests.gates.tree import COMPONENTS, ROOT, files, name, parse, python_files

LONGEST_FILE = 300
LONGEST_FUNCTION = 40


def test_no_file_is_too_long() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_too_long() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name} has {length} lines"
        for path in python_files()
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_explains_itself(component: str) -> None:
    lines = ROOT.joinpath(component, "README.md").read_text(encoding="utf-8").splitlines()
    assert 3 <= len(lines) <= 60, "a component's README says in about ten lines what it is for and what it may touch"


def test_no_file_hides_another_package() -> None:
    """An `__init__.py` in a component folder hides pyscard or qemu.qmp; in a `sdbox/` it hides the other components."""
    forbidden = {ROOT / part / "__init__.py" for part in COMPONENTS}
    forbidden |= {ROOT / part / "sdbox" / "__init__.py" for part in COMPONENTS}
    assert forbidden & set(files()) == set()


def test_each_package_has_its_init() -> None:
    """import-linter, mypy and hatchling agree on what is a package only if it says so itself."""
    folders = {path.parent for path in python_files() if path.relative_to(ROOT).parts[1:2] == ("sdbox",)}
    assert [name(folder) for folder in sorted(folders) if not folder.joinpath("__init__.py").exists()] == []
