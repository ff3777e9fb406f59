"""`sdbox eventlog`: what an event log says, as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sdbox.boot.eventlog import EventLogError, RawEvent, RawEventLog, read_event_log
from sdbox.boot.eventtypes import name_of
from sdbox.boot.explain import explain, hint
from sdbox.boot.firmware import FirmwareError, read_profile
from sdbox.boot.reference import ReferenceFormatError, read_reference
from sdbox.boot.replay import replay

_BAD_INPUT = 2
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EPILOG = "Example: sdbox eventlog /sys/kernel/security/tpm0/binary_bios_measurements --reference reference.json"


@click.command(epilog=_EPILOG)
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--reference", type=_FILE, help="Say which events differ from this reference.json.")
@click.option("--firmware", multiple=True, type=_FILE, help="Compare with this firmware profile too; may be repeated.")
def eventlog(*, file: Path, as_json: bool, reference: Path | None, firmware: tuple[Path, ...]) -> None:
    """Parse a TCG event log and replay it. Exit 0, or 2 if FILE is malformed."""
    try:
        with file.open("rb") as opened:
            log = read_event_log(opened)
        expected = read_reference(reference.read_bytes()) if reference else None
        profiles = tuple(read_profile(path.read_bytes()) for path in firmware)
    except (EventLogError, ReferenceFormatError, FirmwareError, OSError) as error:
        click.echo(f"sdbox eventlog: {error}", err=True)
        raise SystemExit(_BAD_INPUT) from error
    notes = [f"{note.quirk}: {note.text}" for note in log.notes] + explain(log, expected, profiles)
    click.echo(_as_json(log, notes) if as_json else _as_table(log, notes))


def _as_json(log: RawEventLog, notes: list[str]) -> str:
    pcrs = {bank: {str(i): value.hex() for i, value in sorted(values.items())} for bank, values in replay(log).items()}
    return json.dumps({"events": len(log.events), "pcrs": pcrs, "notes": notes}, indent=2)


def _as_table(log: RawEventLog, notes: list[str]) -> str:
    lines = [_line(event) for event in log.events]
    for bank, values in replay(log).items():
        lines.append("")
        lines += [f"{bank:8} PCR {index:2}  {value.hex()}" for index, value in sorted(values.items())]
    return "\n".join([*lines, "", *notes] if notes else lines)


def _line(event: RawEvent) -> str:
    digest = next(reversed(event.digests.values()), b"").hex()[:16] if event.extends else "-"
    pcr = str(event.pcr) if event.extends else "-"
    return f"{event.number:4}  PCR {pcr:>2}  {name_of(event.type):34} {digest:16}  {hint(event.data)}"
