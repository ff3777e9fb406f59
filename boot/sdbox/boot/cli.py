"""`sdbox eventlog`: what an event log says, as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sdbox.boot.eventlog import EventLogError, RawEvent, RawEventLog, parse_event_log
from sdbox.boot.eventtypes import name_of
from sdbox.boot.explain import explain, hint
from sdbox.boot.reference import ReferenceFormatError, ReferenceValues, read_reference
from sdbox.boot.replay import replay

_BAD_INPUT = 2
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EPILOG = "Example: sdbox eventlog /sys/kernel/security/tpm0/binary_bios_measurements --reference reference.json"


@click.command(epilog=_EPILOG)
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--reference", type=_FILE, help="Say which events differ from this reference.json.")
def eventlog(file: Path, as_json: bool, reference: Path | None) -> None:
    """Parse a TCG event log and replay it. Exit 0, or 2 if FILE is malformed."""
    try:
        log = parse_event_log(file.read_bytes())
        expected = read_reference(reference.read_bytes()) if reference else None
    except (EventLogError, ReferenceFormatError, OSError) as error:
        click.echo(f"sdbox eventlog: {error}", err=True)
        raise SystemExit(_BAD_INPUT) from error
    click.echo(_as_json(log, expected) if as_json else _as_table(log, expected))


def _as_json(log: RawEventLog, expected: ReferenceValues | None) -> str:
    pcrs = {bank: {str(i): value.hex() for i, value in sorted(values.items())} for bank, values in replay(log).items()}
    return json.dumps({"events": len(log.events), "pcrs": pcrs, "notes": _notes(log, expected)}, indent=2)


def _as_table(log: RawEventLog, expected: ReferenceValues | None) -> str:
    lines = [_line(event) for event in log.events]
    for bank, values in replay(log).items():
        lines.append("")
        lines += [f"{bank:8} PCR {index:2}  {value.hex()}" for index, value in sorted(values.items())]
    notes = _notes(log, expected)
    return "\n".join([*lines, "", *notes] if notes else lines)


def _line(event: RawEvent) -> str:
    digest = next(reversed(event.digests.values()), b"").hex()[:16] if event.extends else "-"
    pcr = str(event.pcr) if event.extends else "-"
    return f"{event.number:4}  PCR {pcr:>2}  {name_of(event.type):34} {digest:16}  {hint(event.data)}"


def _notes(log: RawEventLog, expected: ReferenceValues | None) -> list[str]:
    notes = [f"{note.quirk}: {note.text}" for note in log.notes]
    return notes + (explain(log, expected) if expected else [])
