"""`sdbox reference`: what boxes are held against, and firmware profiles learnt from a golden machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import click

from sdbox.attestation.appraisal import Expected, appraise
from sdbox.attestation.evidencefile import EvidenceFile, EvidenceFormatError, read_evidence
from sdbox.attestation.structures import NotAQuote, StructureError, parse_quote
from sdbox.attestation.verdict import Verdict
from sdbox.boot.firmware import FirmwareError, FirmwareProfile, learn_profile, read_profile, write_profile
from sdbox.boot.measurement import Measurement
from sdbox.boot.microcode import MICROCODE_PCR
from sdbox.boot.pcr import Bank
from sdbox.boot.reference import ReferenceFormatError, ReferenceValues, read_reference

_REFUSED, _BAD_INPUT = 1, 2
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SHOWN = 16
_MICROCODE = f"measured into PCR {MICROCODE_PCR}, which must hold exactly one processor and revision"


@click.group()
def reference() -> None:
    """Reference values: what boxes are held against. Example: sdbox reference show reference.json."""


@reference.command(epilog="Example: sdbox reference show out/reference.json")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(*, file: Path, as_json: bool) -> None:
    """Show a reference.json of an image build, or a firmware profile. Exit 2 if FILE is neither."""
    data = file.read_bytes()
    try:
        known: ReferenceValues | FirmwareProfile = _read_either(data)
    except (ReferenceFormatError, FirmwareError) as error:
        _stop("show", str(error), _BAD_INPUT)
    if as_json:
        click.echo(json.dumps(json.loads(data), indent=2))
    else:
        click.echo("\n".join(_summary(known)))


@reference.command(epilog='Example: sdbox reference learn evidence.json --model "Bench Q35" --output bench.json')
@click.argument("evidence", type=_FILE)
@click.option("--model", default="", help="The hardware model's name; the file's by default.")
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Where to write it.")
def learn(*, evidence: Path, model: str, output: Path) -> None:
    """Learn PCRs 0 and 2 from the EVIDENCE of a golden machine, whose firmware you vouch for.

    The evidence must be sound in itself: its quote, key, nonce, log and values. Exit 1 if it is not, 2 if malformed.
    """
    try:
        file = read_evidence(evidence.read_bytes())
        verdict = _sound(file)
    except (EvidenceFormatError, StructureError, NotAQuote) as error:
        _stop("learn", str(error), _BAD_INPUT)
    if not verdict.accepted:
        _stop("learn", "; ".join(f"check {f.check} {f.code}: {f.text}" for f in verdict.failures), _REFUSED)
    try:
        profile = learn_profile(model or output.stem, file.evidence.event_log, file.evidence.pcrs)
    except FirmwareError as error:
        _stop("learn", str(error), _REFUSED)
    output.write_bytes(write_profile(profile))
    click.echo("\n".join(_summary(profile)), err=True)


def _sound(file: EvidenceFile) -> Verdict:
    """Appraise with the values that the evidence itself shows: whether it is what its TPM said."""
    selections = parse_quote(file.evidence.attest).selections
    pcrs = tuple(index for _, indices in selections for index in indices)
    values = {str(index): value.hex() for index, value in file.evidence.pcrs.items()}
    shown = ReferenceValues(pcrs, {Bank.SHA256.value: values})
    return appraise(file.evidence, Expected(file.nonce, file.exporter, file.box_id, shown))


def _read_either(data: bytes) -> ReferenceValues | FirmwareProfile:
    try:
        return read_profile(data)
    except FirmwareError:
        return read_reference(data)


def _summary(known: ReferenceValues | FirmwareProfile) -> list[str]:
    if isinstance(known, FirmwareProfile):
        return [f"firmware profile of {known.model}", *_values(known.pcrs, known.events)]
    lines = [
        f"image version {known.image_version or '?'}, profile {known.profile or '?'}",
        f"kernel image {known.uki_sha256 or '?'}",
        f"root hash    {known.root_hash or '?'}",
        f"quoted PCRs  {', '.join(map(str, known.pcr_selection))}; without an expected value: "
        + (", ".join(map(str, known.advisory)) or "none"),
        f"event rules  {known.rules or 'none: values only'}",
        f"microcode    {_MICROCODE if MICROCODE_PCR in known.pcr_selection else 'not measured'}",
    ]
    return lines + _values(known.pcrs[Bank.SHA256], known.events)


def _values(pcrs: dict[str, str], events: dict[str, tuple[Measurement, ...]]) -> list[str]:
    lines = []
    for index, value in sorted(pcrs.items(), key=lambda item: int(item[0])):
        lines.append(f"PCR {index:>2}  {value}")
        lines += [f"        {measured.sha256[:_SHOWN]}  {measured.name}" for measured in events.get(index, ())]
    return lines


def _stop(command: str, text: str, code: int) -> NoReturn:
    click.echo(f"sdbox reference {command}: {text}", err=True)
    raise SystemExit(code)
