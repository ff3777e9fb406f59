"""`sdbox roots`: the bundle of TPM vendors' certificates, each with where it came from."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import NoReturn

import click

from sdbox.attestation.roots import Bundle, BundleError, digest_of, read_tree

_FOLDER = click.Path(file_okay=False, path_type=Path)
_SOURCE = "https://example.org/tpm-certificates"


@click.group()
def roots() -> None:
    """TPM vendors' roots, with their provenance. Example: sdbox roots check vendors."""


@roots.command(epilog=f"Example: sdbox roots add vendors fetched/ --source {_SOURCE} --expect 0123...")
@click.argument("bundle", type=_FOLDER)
@click.argument("tree", type=click.Path(exists=True, path_type=Path))
@click.option("--source", required=True, help="Where it was fetched: a URL.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="When; today by default.")
@click.option("--expect", multiple=True, help="SHA-256 of a certificate, from another source. Then no other is taken.")
@click.option("--development", is_flag=True, help="The maker is a software TPM's.")
def add(
    *, bundle: Path, tree: Path, source: str, date: dt.datetime | None, expect: tuple[str, ...], development: bool
) -> None:
    """Add the certificates of a file or TREE to BUNDLE. Adding the vendor's newer tree again is the update.

    Prints what is new, and what came from the same source before and is no longer in TREE: that stays trusted until
    `drop`. A cabinet is unpacked before (`cabextract`). Exit 2 if anything in TREE can't be used: nothing is added.
    """
    day = (date or dt.datetime.now(dt.UTC)).date()
    try:
        known = Bundle(bundle)
        found = read_tree(tree)
        digests = {digest_of(one) for one in found}
        if expect and digests - set(expect):
            _stop(f"{min(digests - set(expect))}: not among the expected")
        gone = [one for one in known.entries if one.source == source and one.sha256 not in digests]
        new = known.add(found, source, day, development=development)
    except (BundleError, OSError) as error:
        _stop(str(error))
    for entry in new:
        click.echo(f"+ {entry.sha256} {entry.kind} {entry.subject}")
    for entry in gone:
        click.echo(f"? {entry.sha256} {entry.kind} {entry.subject}")
    click.echo(f"{len(known.entries)} certificates, {len(new)} new, {len(gone)} no longer at the source", err=True)


@roots.command(epilog="Example: sdbox roots drop vendors 0123...")
@click.argument("bundle", type=_FOLDER)
@click.argument("sha256")
def drop(*, bundle: Path, sha256: str) -> None:
    """Trust a certificate no longer."""
    try:
        entry = Bundle(bundle).drop(sha256.lower())
    except BundleError as error:
        _stop(str(error))
    click.echo(f"- {entry.sha256} {entry.kind} {entry.subject}")


@roots.command(epilog="Example: sdbox roots check vendors")
@click.argument("bundle", type=_FOLDER)
def check(*, bundle: Path) -> None:
    """Compare files, list and hashes; look at dates and chains. Exit 2 if a gateway would not take it, 1 on a doubt."""
    try:
        known = Bundle(bundle)
        doubts = list(known.problems(dt.datetime.now(dt.UTC)))
    except BundleError as error:
        _stop(str(error))
    for entry in known.entries:
        mark = " development" if entry.development else ""
        click.echo(f"{entry.sha256} {entry.kind} {entry.date} {entry.source} {entry.subject}{mark}")
    for doubt in doubts:
        click.echo(f"sdbox roots check: {doubt}", err=True)
    sys.exit(1 if doubts else 0)


def _stop(text: str) -> NoReturn:
    click.echo(f"sdbox roots: {text}", err=True)
    sys.exit(2)
