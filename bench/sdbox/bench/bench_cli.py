"""`sdbox bench`: each figure beside what it is compared with, measured in the same run on the same machine."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sdbox.bench.bench_attest import measure_attest
from sdbox.bench.bench_boot import measure_boot
from sdbox.bench.bench_card import measure_card
from sdbox.bench.bench_fuzz import measure_fuzz
from sdbox.bench.bench_storm import measure_storm
from sdbox.bench.bench_way import Row, measure_way
from sdbox.bench.hands import Unexpected
from sdbox.bench.run_cli import require_host

ROWS = {
    "attest": measure_attest,
    "boot": measure_boot,
    "card": measure_card,
    "fuzz": measure_fuzz,
    "storm": measure_storm,
    "way": measure_way,
}
NEED_THE_STAND = {"boot", "card", "storm", "way"}
LONG = {"storm"}


@click.command(epilog="Example: sdbox bench way --json > way.json")
@click.argument("names", nargs=-1, type=click.Choice(sorted(ROWS)))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("out"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON on stdout.")
def bench(*, names: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Measure NAME ... (all but `storm` if none is given). Nothing else should run on the machine meanwhile.

    Values are seconds unless the row says otherwise. `fuzz` takes ten minutes. `storm` is no measurement: ten storms in
    a row at the card reader, half an hour or more, that must lose no event and leave nothing behind.
    `boot`, `card`, `storm` and `way` need root.
    """
    names = names or tuple(sorted(set(ROWS) - LONG))
    if NEED_THE_STAND.intersection(names):
        require_host(window=False)
    rows: list[Row] = []
    try:
        for name in names:
            started = time.monotonic()
            rows += ROWS[name](output / f"bench-{name}")
            click.echo(f"{name}: {time.monotonic() - started:.0f} s", err=True)
    except (Unexpected, TimeoutError, RuntimeError) as error:
        click.echo(f"sdbox bench: {error}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows], indent=1))
    else:
        Console().print(table(rows))


def table(rows: list[Row]) -> Table:
    """Return the rows for the terminal."""
    shown = Table("what", "compared with", title="sdbox bench", title_justify="left")
    for name in ("value", "beside", "ratio", "must", "aim"):
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(row.what, row.beside_what or "-", *row.cells())
    return shown
