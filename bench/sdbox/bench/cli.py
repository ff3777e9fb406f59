"""The `sdbox` command: a table of subcommands, each loaded only when it is called.

A part whose dependency is absent takes only its own commands away. Exit codes are the same everywhere: 0 done,
1 refused or failed, 2 nothing was begun: bad input, or a host that lacks something. Progress goes to stderr, data to
stdout.
"""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from dataclasses import dataclass

import click

from sdbox.host.making import CanNotMake
from sdbox.protocol.explanations import EXPLANATIONS
from sdbox.protocol.reasons import Refusal


@dataclass(frozen=True, slots=True)
class Part:
    """Where a subcommand lives, and its line in the list (kept here so that `sdbox --help` imports nothing)."""

    module: str
    attribute: str
    line: str


PARTS = {
    "run": Part("sdbox.bench.run_cli", "run", "Boot the box, insert a card, open both desktops, pull the card."),
    "image": Part("sdbox.image.cli", "image", "Build the box's image and its reference values."),
    "card": Part("sdbox.smartcard.cli", "card", "Card variants, emulated cards, what a card shows."),
    "eventlog": Part("sdbox.boot.cli", "eventlog", "Replay a TCG event log into PCR values."),
    "verify": Part("sdbox.attestation.cli", "verify", "Appraise evidence against reference values."),
    "reference": Part(
        "sdbox.attestation.reference_cli", "reference", "Show reference values, learn a firmware profile."
    ),
    "factory": Part(
        "sdbox.attestation.factory_cli", "factory", "Read a box's endorsement key; the factory's inventory."
    ),
    "roots": Part("sdbox.attestation.roots_cli", "roots", "TPM vendors' roots, with their provenance."),
    "bench": Part("sdbox.bench.bench_cli", "bench", "Measure, each figure beside something it is compared with."),
    "doctor": Part("sdbox.bench.doctor_cli", "doctor", "What this host has and lacks, and what to do about it."),
}


class LazyGroup(click.Group):
    """A group whose commands are the rows of `PARTS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        part = PARTS.get(cmd_name)
        return load(cmd_name, part) if part else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, part.line) for name, part in PARTS.items()])


def load(name: str, part: Part) -> click.Command:
    """Return the command of `part`; if a module is absent, one of the same name that says which."""
    try:
        module = importlib.import_module(part.module)
    except ModuleNotFoundError as error:
        return _unavailable(name, error.name or str(error))
    command = getattr(module, part.attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{part.module}:{part.attribute} is not a click command")
    return command


def _unavailable(name: str, missing: str) -> click.Command:
    advice = "it is not in this installation" if missing.startswith("sdbox.") else "run scripts/setup"

    def refuse() -> None:
        raise click.ClickException(f"`sdbox {name}` needs the Python module {missing}: {advice}")

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=refuse, add_help_option=False, context_settings=settings)


@click.group(cls=LazyGroup, epilog="Example: sdbox doctor && sdbox run. Each command has --help with an example.")
@click.version_option(package_name="sdbox")
def cli() -> None:
    """SD-Box on a build host: build the image, boot it, give it cards, judge its evidence, measure it."""


def main() -> None:
    """Run the command line; what went wrong is one line on stderr."""
    # Asked to end (SIGTERM), a lab must still take down its namespaces and processes: as an exception, `with` does it.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        cli(prog_name="sdbox")
    except Refusal as refusal:
        click.echo(f"sdbox: {refusal}. {EXPLANATIONS[refusal.reason].hint}", err=True)
        sys.exit(1)
    except subprocess.CalledProcessError as error:
        click.echo(f"sdbox: {_program(error.cmd)} failed with exit code {error.returncode}", err=True)
        sys.exit(1)
    except subprocess.TimeoutExpired as error:
        click.echo(f"sdbox: {_program(error.cmd)} did not end within {error.timeout} s", err=True)
        sys.exit(1)
    except (OSError, CanNotMake) as error:
        click.echo(f"sdbox: {error}", err=True)
        sys.exit(1)


def _program(command: object) -> str:
    """Name the program only: arguments may be long, and are nobody's business in a log."""
    return str(command[0]) if isinstance(command, (list, tuple)) and command else "a program"
