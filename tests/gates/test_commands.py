"""The command line's promises: an example in each help text, 2 for bad input, nothing loaded that was not asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from sdbox.bench.cli import PARTS, cli, load


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its full name, groups included."""
    waiting: list[tuple[str, click.Command]] = [(name, load(name, part)) for name, part in PARTS.items()]
    while waiting:
        name, command = waiting.pop()
        yield name, command
        if isinstance(command, click.Group):
            waiting += [(f"{name} {child}", sub) for child, sub in command.commands.items()]


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str) -> None:
    command = COMMANDS[name]
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0, result.output
    assert isinstance(command, click.Group) or f"sdbox {name}" in result.output, "no example in the help text"


@pytest.mark.parametrize("arguments", [["nonsense"], ["doctor", "--nonsense"], ["eventlog"], ["verify"]])
def test_bad_input_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, arguments).exit_code == 2


def test_help_loads_no_part() -> None:
    code = "import sys; from sdbox.bench.cli import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = done.stdout.splitlines()[-1].split()
    assert [part.module for part in PARTS.values() if part.module in loaded] == []
