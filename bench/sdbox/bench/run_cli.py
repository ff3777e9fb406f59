"""`sdbox run`: everything from the image to both desktops on the box's screen, and the timeline of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

import click
from rich.console import Console

from sdbox.bench import doctor, way
from sdbox.bench.commands import BadCommandError, Command, parse_script, run_prompt, run_script
from sdbox.bench.golden import golden_rules
from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.lab import Lab
from sdbox.bench.network import clean_up
from sdbox.bench.softtoken import token_label
from sdbox.bench.stand import BOX, Card, card_near, development_tpm, machine_spec, request_for
from sdbox.bench.timeline import Mark, Timeline
from sdbox.bench.timeline_view import svg, table
from sdbox.bench.window import powered, why_no_window
from sdbox.host.pki import ensure_development_pki
from sdbox.host.tools import ensure_tools_tree
from sdbox.host.workfolder import work_prefix
from sdbox.image.build import build_image
from sdbox.qemu.accel import choose_acceleration
from sdbox.qemu.overlay import written_bytes
from sdbox.qemu.spec import MachineSpec
from sdbox.qemu.tpm import copy_state
from sdbox.smartcard.variants import load_variants
from sdbox.smartcard.virtual.models import MODELS

console = Console(stderr=True)


@click.command(epilog="Example: sdbox run --output out --json; sdbox run --window; sdbox run --script steps.txt")
@click.option("--window", is_flag=True, help="Show the box's screen in a window; asks for commands without --script.")
@click.option("--script", type=click.File(encoding="utf-8"), help="Commands, one a line, instead of the whole way.")
@click.option("--variant", default="sc-hsm-bio", show_default=True, help="Card variant (see `sdbox card variants`).")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("out"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the timeline as JSON on stdout.")
def run(*, window: bool, script: TextIO | None, variant: str, output: Path, as_json: bool) -> None:
    """Boot the box, insert a card, open both desktops, pull the card.

    Builds what is missing first. Ends with the timeline (table, OUTPUT/timeline.svg) and screenshots in OUTPUT.
    A script begins once the box asks for a card; `help` at the prompt of --window lists the commands: insert, finger,
    pin, pick, switch, key, see, picture, remove, quit.
    Exit code 0: everything was seen on the box's screen; 1: it was not; 2: bad input.
    """
    try:
        commands = parse_script(script) if script is not None else ()
        require_variant(variant)
        require_host(window=window)
        with stand_up(variant, Timeline(), output, window=window) as (hands, lab):
            if commands:
                result = way.scripted(hands, lab, lambda: by_script(hands, commands))
            else:
                result = way.scripted(hands, lab, lambda: by_hand(hands)) if window else way.go(hands, lab)
            hands.machine.stop()
            finish(result, hands.machine.spec, as_json=as_json)
    except BadCommandError as error:
        end(f"{script.name if script else 'script'}, {error}", 2)
    except (Unexpected, TimeoutError, RuntimeError) as error:
        end(str(error), 1)


class BadInputError(click.ClickException):
    """What was asked for can not be done, or not on this host; the text says what to do. Ends any command with 2."""

    exit_code = 2


def end(text: str, code: int) -> NoReturn:
    """Say in one line what went wrong, and end."""
    click.echo(f"sdbox run: {text}", err=True)
    sys.exit(code)


def require_variant(variant: str) -> None:
    """Refuse a card that the bench does not have."""
    known = sorted([*MODELS, *(each.name for each in load_variants() if token_label(each))])
    if variant not in known:
        raise BadInputError(f"no card {variant!r} to put into the box; there are {', '.join(known)}")


def require_host(*, window: bool) -> None:
    """Refuse, with what to do about it, if this host can not run the bench."""
    first = next((finding for finding in doctor.examine() if finding.status is doctor.Status.MISSING), None)
    if first is not None:
        raise BadInputError(f"{first.name}: {first.found}; {first.advice} (all of it: sdbox doctor)")
    if window and (reason := why_no_window()):
        raise BadInputError(reason)


def by_script(hands: Hands, commands: tuple[Command, ...]) -> tuple[str, ...]:
    """Do the commands once the box asks for a card; return the screens that were seen."""
    hands.wait_ready()
    return ("insert-card", *run_script(hands, commands))


def by_hand(hands: Hands) -> tuple[str, ...]:
    """Do what is typed, from the moment the box asks for a card or refuses to; return the screens that were seen."""
    seen = list[str]()
    try:
        hands.wait_ready()
        seen.append("insert-card")
    except Unexpected as error:
        click.echo(str(error), err=True)
    return (*seen, *run_prompt(hands, lambda: click.prompt("box", prompt_suffix="> ", err=True)))


@contextmanager
def stand_up(variant: str, timeline: Timeline, output: Path, *, window: bool) -> Iterator[tuple[Hands, Lab]]:
    """Yield a powered-on box with a card near it, in a lab: everything is made first and removed afterwards."""
    with ExitStack() as stack:
        with step("development keys and certificates"):
            ensure_development_pki()
        with step("tools tree"):
            ensure_tools_tree()
        console.print(f"acceleration: {choose_acceleration().why}", highlight=False)
        with step("image"):
            image = build_image(request_for(variant))
        with step("software TPM"):
            tpm = development_tpm()
        clean_up(Path(tempfile.gettempdir()))  # what killed runs left behind
        with step("what the box is held against, learnt from a boot of its own the first time"):
            rules = golden_rules(image)
        with step("gateway, network and bubbles"):
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=work_prefix("run"))))
            stack.callback(keep_logs, work, output / "logs")
            lab = stack.enter_context(Lab(image.reference, rules, keep=output / "logs"))
            lab.gateway.enrol(BOX, tpm)
            spec = machine_spec(image, lab, work, copy_state(tpm, work / "tpm"))
        timeline.start = time.monotonic()
        timeline.on_mark = show_mark
        machine = stack.enter_context(powered(spec, window=window))
        timeline.mark("power-on", "bench", at=machine.started)
        card = stack.enter_context(card_near(machine, Card(variant)))
        hands = Hands(machine, card, timeline, output)
        hands.projects = way.PROJECTS
        yield hands, lab


def keep_logs(work: Path, target: Path) -> None:
    """Copy the machine's logs, its serial console among them, to where people look."""
    target.mkdir(parents=True, exist_ok=True)
    for log in work.glob("*.log"):
        shutil.copy(log, target / log.name)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Show that a step of the set-up runs, and then how long it took."""
    started = time.monotonic()
    with console.status(f"{name} ..."):
        yield
    console.print(f"[green]done[/] {name} ({time.monotonic() - started:.1f} s)", highlight=False)


def show_mark(mark: Mark) -> None:
    """Print one line of the timeline as it happens."""
    console.print(f"{mark.seconds:8.2f} s  {mark.name} [dim](seen by {mark.source})[/]", highlight=False)


def finish(result: way.WayResult, spec: MachineSpec, *, as_json: bool) -> None:
    """Write the pictures of the timeline, and print it; what `spec`'s machine wrote to its disk goes with it."""
    picture = result.pictures / "timeline.svg"
    picture.write_text(svg(result.timeline), encoding="utf-8")
    console.print(table(result.timeline))
    console.print(f"Pictures: {result.pictures}/*.png, {picture}", highlight=False)
    if as_json:
        marks = [dataclasses.asdict(mark) for mark in result.timeline.ordered()]
        told = {"seen": result.seen, "peers_left": result.peers_left, "disk_bytes_written": disk_bytes_written(spec)}
        click.echo(json.dumps({**told, "marks": marks}))
    if result.peers_left and result.ended:
        raise Unexpected(f"{result.peers_left} tunnel peers are left at the gateway after the card was pulled")


def disk_bytes_written(spec: MachineSpec) -> int:
    """Return how many bytes the box wrote to its disk: none is what it promises (S9)."""
    return written_bytes(spec.disk, spec.overlay) if spec.disk else 0
