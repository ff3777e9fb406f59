"""`sdbox run`: everything from the image to both desktops on the box's screen, and the timeline of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console

from sdbox.bench import doctor, way
from sdbox.bench.commands import BadCommandError, run_prompt, run_script
from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.lab import Lab
from sdbox.bench.network import clean_up
from sdbox.bench.stand import BOX, Card, card_near, development_tpm, machine_spec
from sdbox.bench.timeline import Mark, Timeline
from sdbox.bench.timeline_view import svg, table
from sdbox.bench.window import powered
from sdbox.host.pki import ensure_development_pki
from sdbox.host.places import cache_folder
from sdbox.host.tools import ensure_tools_tree
from sdbox.image.build import BuildRequest, build_image
from sdbox.qemu.tpm import copy_state

console = Console(stderr=True)


@click.command(epilog="Example: sdbox run --output out --json; sdbox run --window")
@click.option("--window", is_flag=True, help="Show the box's screen in a window and ask for commands.")
@click.option("--script", type=click.File(encoding="utf-8"), help="Commands, one a line, instead of the whole way.")
@click.option("--variant", default="sc-hsm-bio", show_default=True, help="Card variant (see `sdbox card variants`).")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("out"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the timeline as JSON on stdout.")
def run(*, window: bool, script: TextIO | None, variant: str, output: Path, as_json: bool) -> None:
    """Boot the box, insert a card, open both desktops, pull the card.

    Builds what is missing first. Ends with the timeline (table, OUTPUT/timeline.svg) and screenshots in OUTPUT.
    Exit code 0: everything was seen on the box's screen; 1: it was not; 2: bad input.
    """
    require_host(window=window)
    timeline = Timeline()
    try:
        with stand_up(variant, timeline, output, window=window) as (hands, lab):
            if script is not None:
                run_script(hands, script)
            elif window:
                run_prompt(hands)
            else:
                finish(way.go(hands, lab), as_json=as_json)
    except BadCommandError as error:
        click.echo(f"sdbox run: {error}", err=True)
        sys.exit(2)
    except (Unexpected, TimeoutError, RuntimeError) as error:
        click.echo(f"sdbox run: {error}", err=True)
        sys.exit(1)


def require_host(*, window: bool) -> None:
    """End with one clear line and exit code 2 if this host can not run the bench."""
    missing = [finding for finding in doctor.examine() if finding.status is doctor.Status.MISSING]
    if missing:
        first = missing[0]
        click.echo(f"sdbox run: {first.name}: {first.found}; {first.advice} (all of it: sdbox doctor)", err=True)
        sys.exit(2)
    if window and not os.environ.get("DISPLAY"):
        click.echo("sdbox run: --window needs a graphical session (DISPLAY is not set); try --script", err=True)
        sys.exit(2)


@contextmanager
def stand_up(variant: str, timeline: Timeline, output: Path, *, window: bool) -> Iterator[tuple[Hands, Lab]]:
    """Yield a powered-on box with a card near it, in a lab: everything is made first and removed afterwards."""
    with ExitStack() as stack:
        with step("development keys and certificates"):
            ensure_development_pki()
        with step("tools tree"):
            ensure_tools_tree()
        with step("image"):
            image = build_image(BuildRequest(output=cache_folder() / "image-production"))
        with step("software TPM"):
            tpm = development_tpm()
        clean_up(Path(tempfile.gettempdir()))  # what killed runs left behind
        with step("gateway, network and bubbles"):
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sdbox-run-")))
            stack.callback(keep_logs, work, output / "logs")
            lab = stack.enter_context(Lab(image.reference, keep=output / "logs"))
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


def finish(result: way.WayResult, *, as_json: bool) -> None:
    """Write the pictures of the timeline, and print it."""
    picture = result.pictures / "timeline.svg"
    picture.write_text(svg(result.timeline), encoding="utf-8")
    console.print(table(result.timeline))
    console.print(f"Pictures: {result.pictures}/*.png, {picture}", highlight=False)
    if as_json:
        marks = [dataclasses.asdict(mark) for mark in result.timeline.ordered()]
        click.echo(json.dumps({"seen": result.seen, "peers_left": result.peers_left, "marks": marks}))
    if result.peers_left:
        raise Unexpected(f"{result.peers_left} tunnel peers are left at the gateway after the card was pulled")
