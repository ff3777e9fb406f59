"""Commands for a box by hand or by script: `insert`, `finger`, `pick atlas` ..., one a line.

The same words serve `sdbox run --window` (typed at a prompt) and `sdbox run --script FILE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.sight import desktop

ANY_STATE = ("insert-card", "finger", "pin", "pick", "picker", "refused")

HELP = """\
insert              put the card into the reader
finger [NAME]       touch the sensor: good (default), or any other name for a wrong finger
pin DIGITS          type a PIN
pick PROJECT        pick a project in the list
switch PROJECT      bring the list over the desktop and pick another project
key NAME            press a key (QEMU's names: ret, esc, f1, pause ...)
see STATE           wait until the screen shows a state, or desktop:PROJECT
picture NAME        save a screenshot
remove              pull the card
quit                power off"""


class BadCommandError(ValueError):
    """The line is not a command; the text says what would be."""


def run_line(hands: Hands, line: str) -> str | None:
    """Carry out one line and return what the screen then shows; None for `quit`. BadCommandError for anything else."""
    word, *words = line.split()
    if word == "quit":
        return None
    action = _actions(hands).get(word)
    if action is None:
        raise BadCommandError(f"unknown command {word!r}; `help` lists them")
    try:
        return action(*words)
    except TypeError as error:
        raise BadCommandError(f"{word}: wrong number of words; `help` lists the commands") from error


def _actions(hands: Hands) -> dict[str, Callable[..., str]]:
    def desktops() -> list[str]:
        return [desktop(project) for project in hands.projects]

    def known(project: str) -> str:
        if project not in hands.projects:
            raise BadCommandError(f"no project {project!r} on the card; it has {', '.join(hands.projects)}")
        return project

    def key(name: str) -> str:
        hands.machine.press(name)
        return f"pressed {name}"

    def picture(name: str) -> str:
        return str(hands.keep(hands.machine.screenshot(), name))

    return {
        "help": lambda: HELP,
        "insert": lambda: hands.insert(ANY_STATE),
        "finger": lambda name="good": hands.finger(name, ANY_STATE),
        "pin": lambda digits: hands.pin(digits, ANY_STATE),
        "pick": lambda project: hands.pick(known(project), [*desktops(), "refused"]),
        "switch": lambda project: hands.switch(known(project)),
        "see": lambda state: hands.see([state]),
        "key": key,
        "picture": picture,
        "remove": hands.remove,
    }


def run_script(hands: Hands, lines: Iterable[str]) -> None:
    """Carry out a script; `#` begins a comment. Stops at the first line that fails."""
    for number, raw in enumerate(lines, 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        try:
            seen = run_line(hands, line)
        except BadCommandError as error:
            raise BadCommandError(f"line {number}: {error}") from error
        if seen is None:
            return
        click.echo(f"{line}: {seen}", err=True)


def run_prompt(hands: Hands) -> None:
    """Ask for commands until `quit` or the end of input; a failed command is told, and the box goes on."""
    click.echo(HELP, err=True)
    while True:
        try:
            line = click.prompt("box", prompt_suffix="> ", err=True).strip()
        except click.Abort:
            return
        try:
            seen = run_line(hands, line) if line else ""
        except (BadCommandError, Unexpected, TimeoutError) as error:
            click.echo(str(error).splitlines()[0], err=True)
            continue
        if seen is None:
            return
        click.echo(seen, err=True)
