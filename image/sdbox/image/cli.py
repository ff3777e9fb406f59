"""`sdbox image`: building on the command line. Data on stdout, progress on stderr; exit 0, 1 failed, 2 bad input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from sdbox.host.making import CanNotMake
from sdbox.host.pki import ensure_development_pki
from sdbox.image.build import build_image
from sdbox.image.checks import check_host, check_request
from sdbox.image.request import (
    BadRequestError,
    BuildRequest,
    BuiltImage,
    Producer,
    Profile,
    SiteSettings,
    development_keys,
    development_site,
)

EXAMPLE = "Example: sdbox image build --profile production --output build/production"


@click.group()
def image() -> None:
    """Build the box's image."""


@image.command(epilog=EXAMPLE)
@click.option(
    "--producer",
    type=click.Choice([each.value for each in Producer]),
    default=Producer.DEBIAN.value,
    show_default=True,
    help="Maker of the root tree.",
)
@click.option(
    "--profile",
    type=click.Choice([each.value for each in Profile]),
    default=Profile.PRODUCTION.value,
    show_default=True,
)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the finished files."
)
@click.option("--image-version", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the Secure Boot keys.  [default: development keys]",
)
@click.option(
    "--endpoint", "endpoints", multiple=True, metavar="ADDRESS:PORT", help="Gateway of the site; may be repeated."
)
@click.option("--gateway-name", help="DNS name in the gateway's certificate.")
@click.option(
    "--centre-ca", type=click.Path(dir_okay=False, path_type=Path), help="CA of the gateway's certificate, PEM."
)
@click.option(
    "--card-root",
    "card_roots",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="CVC root of cards with secure messaging; may be repeated.",
)
@click.option(
    "--idle-minutes", type=click.IntRange(1, 240), help="Nobody there: the card's session ends.  [default: 15]"
)
@click.option(
    "--session-minutes", type=click.IntRange(1, 1440), help="Since the finger or PIN: it ends too.  [default: 600]"
)
@click.option("--card-token", metavar="VARIANT", help="A variant without a reader (softhsm); debug profile only.")
@click.option("--json", "as_json", is_flag=True, help="Print the finished files as JSON.")
def build(
    *,
    producer: str,
    profile: str,
    output: Path,
    image_version: int,
    keys: Path | None,
    endpoints: tuple[str, ...],
    gateway_name: str | None,
    centre_ca: Path | None,
    card_roots: tuple[Path, ...],
    idle_minutes: int | None,
    session_minutes: int | None,
    card_token: str | None,
    as_json: bool,
) -> None:
    """Build root file system, signed UKI, disk, firmware variables and reference values."""
    bench = development_site()
    site = SiteSettings(
        centre_ca=centre_ca or bench.centre_ca,
        endpoints=endpoints or bench.endpoints,
        gateway_name=gateway_name or bench.gateway_name,
        idle_minutes=idle_minutes,
        session_minutes=session_minutes,
        card_token=card_token,
        card_roots=card_roots or (bench.card_roots if centre_ca is None else ()),
    )
    request = BuildRequest(
        output=output.absolute(),
        profile=Profile(profile),
        producer=Producer(producer),
        image_version=image_version,
        site=site,
        keys=keys.absolute() if keys else development_keys(),
    )
    _print(_build(request, development=keys is None or centre_ca is None), as_json=as_json)


def _build(request: BuildRequest, *, development: bool) -> BuiltImage:
    try:
        check_request(request)
        check_host()
        if development:
            ensure_development_pki()
        return build_image(request)
    except BadRequestError as error:
        click.echo(f"sdbox image: {error}", err=True)
        raise SystemExit(2) from error
    except CanNotMake as error:
        click.echo(f"sdbox image: {error}", err=True)
        raise SystemExit(1) from error


def _print(built: BuiltImage, *, as_json: bool) -> None:
    fields = {name: str(value) for name, value in dataclasses.asdict(built).items()}
    if as_json:
        click.echo(json.dumps(fields, indent=1))
    else:
        for name, value in fields.items():
            click.echo(f"{name:13}{value}")
