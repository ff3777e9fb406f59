"""Commands for a box by hand or by script: `insert`, `finger`, `pick atlas` ..., one a line.

The same words serve `sdbox run --window` (typed at a prompt) and `sdbox run --script FILE`. A script is read and
checked as a whole before the box is powered on: a typing error must not cost a boot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import click

from sdbox.agent.screen.palette import ScreenState
from sdbox.bench.bubble import BENCH_BUBBLES
from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.sight import BLANK, desktop
from sdbox.bench.way import PROJECTS
from sdbox.qemu.keyboard import KEYS, strokes

DESKTOPS = tuple(desktop(bubble.project) for bubble in BENCH_BUBBLES)
SEEN = (*(state.value for state in ScreenState), *DESKTOPS, BLANK)
ANY = 9  # words of a command that takes several
END = "quit"


class BadCommandError(ValueError):
    """The line is not a command; the text says what would be."""


@dataclass(frozen=True, slots=True)
class Form:
    """A command: how it is written, what it does, how many words follow, and what the words may be (None: anything)."""

    usage: str
    does: str
    act: Callable[..., str]
    least: int = 0
    most: int = 0
    allowed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One checked line. `number` is its place in the script."""

    number: int
    text: str
    word: str
    words: tuple[str, ...]


def _key(hands: Hands, *names: str) -> str:
    hands.machine.press(*names)
    return f"pressed {' '.join(names)}"


def _picture(hands: Hands, name: str) -> str:
    return str(hands.keep(hands.machine.screenshot(), name))


def _help(_hands: Hands) -> str:
    return help_text()


def _quit(_hands: Hands) -> str:
    return "power off"


FORMS = {
    "help": Form("help", "this list", _help),
    "insert": Form("insert", "put the card into the reader", lambda hands: hands.insert()),
    "finger": Form(
        "finger [NAME]",
        "touch the sensor: good (default), or any other name for a wrong finger",
        lambda hands, name="good": hands.finger(name),
        most=1,
    ),
    "pin": Form("pin DIGITS", "type a PIN", lambda hands, digits: hands.pin(digits), 1, 1),
    "pick": Form(
        "pick PROJECT",
        "pick a project in the list",
        lambda hands, project: hands.pick(project, (*DESKTOPS, "refused")),
        1,
        1,
        PROJECTS,
    ),
    "switch": Form(
        "switch PROJECT",
        "bring the list over the desktop and pick another project",
        lambda hands, project: hands.switch(project),
        1,
        1,
        PROJECTS,
    ),
    "key": Form("key NAME ...", "press keys together, by QEMU's names: ret, esc, f1, pause ...", _key, 1, ANY, KEYS),
    "see": Form(
        "see STATE", "wait until the screen shows it", lambda hands, state: hands.see([state]), 1, 1, tuple(SEEN)
    ),
    "picture": Form("picture NAME", "save a screenshot", _picture, 1, 1),
    "remove": Form("remove", "pull the card", lambda hands: hands.remove()),
    END: Form(END, "power off", _quit),
}


def help_text() -> str:
    """Return the list of commands, one a line."""
    return "\n".join(f"{form.usage:18}{form.does}" for form in FORMS.values())


def parse_line(text: str, number: int = 0) -> Command | None:
    """Return the command of a line, None if it is empty (`#` begins a comment); BadCommandError says what is wrong."""
    word, *words = text.partition("#")[0].split() or [""]
    if not word:
        return None
    form = FORMS.get(word)
    if form is None:
        raise BadCommandError(f"unknown command {word!r}{_nearest(word, FORMS)}")
    if not form.least <= len(words) <= form.most:
        raise BadCommandError(f"{word} is written: {form.usage}")
    for each in words:
        if form.allowed is not None and each not in form.allowed:
            raise BadCommandError(f"{word} does not know {each!r}{_nearest(each, form.allowed)}")
        _check_word(word, each)
    return Command(number, text.partition("#")[0].strip(), word, tuple(words))


def _nearest(wrong: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(wrong, names, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"


def _check_word(word: str, text: str) -> None:
    if word == "picture" and not text.replace("-", "").replace("_", "").isalnum():
        raise BadCommandError("picture is written: picture NAME, with letters, digits, - and _ only")
    if word == "pin":
        try:
            strokes(text)
        except ValueError as error:
            raise BadCommandError(f"pin: {error}") from error


def parse_script(lines: Iterable[str]) -> tuple[Command, ...]:
    """Return the commands of a script; BadCommandError names the first line that is none."""
    commands = []
    for number, text in enumerate(lines, 1):
        try:
            command = parse_line(text, number)
        except BadCommandError as error:
            raise BadCommandError(f"line {number}: {error}") from error
        if command is not None:
            commands.append(command)
    if not commands:
        raise BadCommandError("the script has no command; `sdbox run --help` shows one")
    return tuple(commands)


def perform(hands: Hands, command: Command) -> str:
    """Carry out a command; returns what the screen shows after it, or what else is worth telling."""
    return FORMS[command.word].act(hands, *command.words)


def run_script(hands: Hands, commands: Iterable[Command]) -> tuple[str, ...]:
    """Carry out a script on a box that asks for a card; returns what the screen showed on the way.

    Unexpected, naming the line, at the first command that leads elsewhere.
    """
    seen = []
    for command in commands:
        try:
            outcome = perform(hands, command)
        except (RuntimeError, TimeoutError) as error:
            raise Unexpected(f"line {command.number}: {command.text}: {error}") from error
        click.echo(f"line {command.number}: {command.text} -> {outcome}", err=True)
        if command.word == END:
            break
        if outcome in SEEN:
            seen.append(outcome)
    return tuple(seen)


def run_prompt(hands: Hands, ask: Callable[[], str]) -> tuple[str, ...]:
    """Carry out what `ask` returns until `quit` or the end of input; returns what the screen showed on the way.

    A failed command is told, and the box goes on.
    """
    seen = list[str]()
    click.echo(help_text(), err=True)
    while True:
        try:
            command = parse_line(ask())
            if command is None:
                continue
            outcome = perform(hands, command)
            click.echo(outcome, err=True)
            if command.word == END:
                return tuple(seen)
            if outcome in SEEN:
                seen.append(outcome)
        except (EOFError, click.Abort):
            return tuple(seen)
        except (BadCommandError, RuntimeError, TimeoutError) as error:
            click.echo(str(error).partition("\n")[0], err=True)
