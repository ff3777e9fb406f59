"""`sdbox bench storm`: storms in a row at one booted box, and what they left behind in it."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from sdbox.bench.bench_way import Row
from sdbox.bench.census import Census, leaks_after, take_census
from sdbox.bench.golden import golden_rules
from sdbox.bench.hands import Hands, Unexpected
from sdbox.bench.lab import Lab
from sdbox.bench.stand import BOX, card_near, development_tpm, inside_request, machine_spec
from sdbox.bench.storm import CARD, Storm
from sdbox.bench.timeline import Timeline
from sdbox.host.workfolder import work_prefix
from sdbox.image.build import build_image
from sdbox.qemu.card import CardProcess
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state

EVENTS = 200
TIMES = 10
GROWTH_KIB = 4096  # of memory, over all storms


def measure_storm(output: Path) -> list[Row]:
    """Let TIMES storms of EVENTS events blow; Unexpected at the first thing lost, leaked or tried too often."""
    first = random.SystemRandom().randrange(1_000_000)
    with storm_stand(output) as (hands, card, lab):
        begin = weathered(hands, card, lab)
        rows = [one_storm(hands, card, lab, first + number) for number in range(TIMES)]
        leaks = leaks_after(hands.machine, begin, kib=GROWTH_KIB)
        click.echo(f"before: {begin}\nafter:  {take_census(hands.machine)}", err=True)
    if leaks:
        raise Unexpected(f"left behind in the box: {'; '.join(leaks)}")
    return rows


@contextmanager
def storm_stand(output: Path) -> Iterator[tuple[Hands, CardProcess, Lab]]:
    """Yield a box of the debug profile that asks for a card, at a gateway that lets it in."""
    with ExitStack() as stack:
        image = build_image(inside_request())
        lab = stack.enter_context(Lab(image.reference, golden_rules(image), keep=output / "logs"))
        lab.gateway.enrol(BOX, development_tpm())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=work_prefix("storm"))))
        spec = machine_spec(image, lab, work, copy_state(development_tpm(), work / "tpm"))
        machine = stack.enter_context(Machine(spec))
        card = stack.enter_context(card_near(machine, CARD))
        hands = Hands(machine, card, Timeline(), output)
        hands.projects = CARD.projects
        hands.wait_ready()
        yield hands, as_process(card), lab


def as_process(card: object) -> CardProcess:
    """Return the card as the process it is."""
    if not isinstance(card, CardProcess):
        raise TypeError("a storm needs a card in a reader")
    return card


def weathered(hands: Hands, card: CardProcess, lab: Lab) -> Census:
    """Count what runs in the box after a first session."""
    Storm(hands, card, lab, 0).warm_up()
    return take_census(hands.machine)


def one_storm(hands: Hands, card: CardProcess, lab: Lab, seed: int, *, events: int = EVENTS) -> Row:
    """Let one storm of this seed blow; its row has how long it took, and what it was made of."""
    started, storm = time.monotonic(), Storm(hands, card, lab, seed)
    try:
        storm.blow(events, lambda text: click.echo(f"storm {seed}: {text}", err=True))
    except (Unexpected, TimeoutError) as error:
        hands.keep(hands.machine.screenshot(), f"lost-{seed}")
        raise Unexpected(f"storm {seed}: {error}") from error
    return row_of(seed, storm.events(), storm.tally, time.monotonic() - started)


def row_of(seed: int, events: int, tally: Counter[str], seconds: float) -> Row:
    """Return the row of a storm that lost nothing."""
    words = ", ".join(f"{number} {name}" for name, number in sorted(tally.items()))
    return Row(f"storm {seed}: {events} events ({words})", seconds)
