"""What must not stand in the tree: somebody's paths, an index host, a switch that lets everything through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.gates.tree import ROOT, files, name

FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.-])/(?:home|Users|work)/\w",
    "a package index by address": r"https?://[^\s/]*(?:pypi|pythonhosted|npmjs|artifact)[^\s]*",
    "an index setting": r"--(?:extra-)?index-url(?!`)|index-url\s*=",
    "a private network": r"\b(?:192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d+\.\d+\b",
    "a shell": r"\bshell=True\b",
    "work left over": r"\b(?:TO" + "DO|FIX" + r"ME)\b",
}
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".sh",
    ".service",
    ".socket",
    ".conf",
    ".rules",
    ".lock",
    ".cfg",
    ".in",
    ".mk",
    "",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_of_this_in_the_tree(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    own = ROOT / "tests" / "gates"
    texts = [
        path
        for path in files()
        if path.suffix in TEXT and not path.is_relative_to(own) and path != ROOT / "pyproject.toml"
    ]
    assert [hit for path in texts for hit in hits(pattern, path)] == []


def hits(pattern: re.Pattern[str], path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []  # a binary vector
    return [f"{name(path)}:{number} {line.strip()}" for number, line in enumerate(lines, 1) if pattern.search(line)]
