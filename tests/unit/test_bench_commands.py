"""Commands of `sdbox run --script`: what is one, and what a line that is none gets told."""

from __future__ import annotations

import pytest

from sdbox.bench.commands import FORMS, BadCommandError, Command, help_text, parse_line, parse_script


def test_a_script_is_read_whole_with_comments_and_line_numbers() -> None:
    commands = parse_script(["# the way\n", "insert\n", "\n", "pick atlas  # first\n", "key ctrl alt f2\n"])
    assert commands == (
        Command(2, "insert", "insert", ()),
        Command(4, "pick atlas", "pick", ("atlas",)),
        Command(5, "key ctrl alt f2", "key", ("ctrl", "alt", "f2")),
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("isnert", "did you mean 'insert'"),
        ("dance", "known: help, insert"),
        ("pick", "pick is written: pick PROJECT"),
        ("insert card", "insert is written: insert"),
        ("pick altas", "did you mean 'atlas'"),
        ("see refuse", "did you mean 'refused'"),
        ("see desktop:atlass", "did you mean 'desktop:atlas'"),
        ("key retrun", "did you mean"),
        ("picture ../out", "letters, digits"),
        ("pin 1é", "no key for this character"),
    ],
)
def test_a_line_that_is_none_gets_a_hint(line: str, told: str) -> None:
    with pytest.raises(BadCommandError) as error:
        parse_script(["insert", line])
    assert str(error.value).startswith("line 2: ")
    assert told in str(error.value)
    assert "1é" not in str(error.value), "a PIN is not repeated"


def test_a_script_without_a_command_is_none() -> None:
    with pytest.raises(BadCommandError):
        parse_script(["# nothing", ""])
    assert parse_line("  # nothing") is None


def test_help_lists_every_command() -> None:
    assert [line.split()[0] for line in help_text().splitlines()] == list(FORMS)
