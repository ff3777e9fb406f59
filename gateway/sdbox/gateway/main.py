"""`sdbox-gateway`: serve, and what an operator does with the inventory, the revocations and the record."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click
from sqlalchemy.exc import SQLAlchemyError

from sdbox.attestation.vendorcert import quirks_of
from sdbox.gateway.config import Config, ConfigError, load_config, require_rules
from sdbox.gateway.crl import revoked_serials
from sdbox.gateway.enrolling import Candidate, Enrolling, recorded_candidate
from sdbox.gateway.passes import Passes
from sdbox.gateway.record import sanitised
from sdbox.gateway.renewalbook import RenewalBook
from sdbox.gateway.server import run_gateway
from sdbox.gateway.store import RevocationKind, Store, StoreError
from sdbox.gateway.verifier import read_endorsement_key
from sdbox.gateway.wireguard import WireGuardError
from sdbox.protocol.values import BoxId

_SERIAL = re.compile(r"[0-9a-f]{1,40}")


class _Uuid(click.ParamType[BoxId]):
    name = "uuid"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> BoxId:
        try:
            return BoxId.parse(str(value))
        except ValueError:
            self.fail("not a canonical UUID", param, ctx)


_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_config = click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The gateway's TOML file."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The data centre's gateway.

    Example: sdbox-gateway serve --config /etc/sdbox/gateway.toml

    Exit codes: 0 done, 1 refused or failed, 2 bad input.
    """


@main.command()
@_config
def serve(path: Path) -> None:
    """Serve boxes until SIGTERM. Prints `listening ADDRESS:PORT` once ready; the record goes to standard error."""
    config = _load(path, rules=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is one; 1024 are the usual soft limit
    try:
        asyncio.run(run_gateway(config))
    except (OSError, ValueError, StoreError, SQLAlchemyError, WireGuardError) as error:
        _fail(f"cannot serve: {error}")


@main.command()
@_config
@click.option("--box-id", type=_Uuid(), help="The box's UUID (SMBIOS).")
@click.option("--ek-public", type=_FILE, help="EK, PEM.")
@click.option("--ek-certificate", type=_FILE, help="Its certificate, PEM or DER: asked for where `tpm_roots` is set.")
@click.option("--record", type=_FILE, help="All of these: what `sdbox factory read` wrote on the box.")
def enrol(
    path: Path, *, box_id: BoxId | None, ek_public: Path | None, ek_certificate: Path | None, record: Path | None
) -> None:
    """Put a box on the inventory: this UUID with this TPM, and no other. A running gateway knows at once.

    Exit 1, with the check that failed, if the site's roots or the factory's inventory speak against the TPM.
    """
    try:
        if record is not None and (box_id, ek_public, ek_certificate) == (None, None, None):
            candidate = recorded_candidate(record.read_bytes())
        elif record is None and box_id is not None and ek_public is not None:
            certificate = ek_certificate.read_bytes() if ek_certificate else None
            candidate = Candidate(box_id, read_endorsement_key(ek_public.read_bytes()), certificate)
        else:
            raise click.UsageError("give --record, or --box-id and --ek-public")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--record" if record else "--ek-public") from error
    config = _load(path, rules=True)
    try:
        rules = Enrolling(config.tpm_roots, config.inventory, development=config.development)
    except ConfigError as error:
        _fail(str(error))
    if found := list(rules.failures(candidate)):
        _fail("; ".join(f"check {one.check} {one.code}: {one.text}" for one in found))
    with _store(path) as store:
        store.enrol(candidate.box_id, candidate.pem)
        tolerated = {"quirks": " ".join(quirks)} if (quirks := quirks_of(candidate.certificate)) else {}
        store.append({"event": "enrolled", "box": str(candidate.box_id), **tolerated})


@main.command()
@_config
@click.option("--box-id", required=True, type=_Uuid())
def forget(path: Path, box_id: BoxId) -> None:
    """Take a box off the inventory: needed before it may come back with another TPM."""
    with _store(path) as store:
        if not store.forget(box_id):
            _fail(f"box {box_id} is not enrolled")
        Passes(store).forget(box_id)
        store.append({"event": "forgotten", "box": str(box_id)})


@main.command("forget-clock")
@_config
@click.option("--box-id", required=True, type=_Uuid())
def forget_clock(path: Path, box_id: BoxId) -> None:
    """Forget what was seen of a box's TPM: needed after its TPM was cleared or replaced on purpose, and only then."""
    with _store(path) as store:
        if not Passes(store).forget(box_id):
            _fail(f"box {box_id} has never passed")
        store.append({"event": "clock-forgotten", "box": str(box_id)})


@main.command()
@_config
def passes(path: Path) -> None:
    """Print, as JSON lines, when each box last passed the appraisal: a verifier that stopped working shows here."""
    with _store(path) as store:
        for box, known in Passes(store).all():
            line = {"box": str(box), "last_pass": known.at, "age_seconds": round(known.age(), 1)}
            click.echo(json.dumps(line | {"image_version": known.image_version, "ak_name": known.ak_name.hex()}))


@main.command()
@_config
@click.option("--box", "box", type=_Uuid(), help="A box, for good.")
@click.option("--certificate", help="A card certificate, by its serial number in hex.")
@click.option("--crl", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="All of a card CA's CRL.")
@click.option("--session", help="A session that is open now.")
def revoke(path: Path, *, box: BoxId | None, certificate: str | None, session: str | None, crl: Path | None) -> None:
    """Revoke a box, card certificates or a session. Open sessions it concerns end within two seconds.

    With a certificate go those that it renewed and that renewed it: they are one holder's. A CRL (RFC 5280, section 5;
    DER or PEM) must be signed by the card CA of the configuration; it revokes what it lists and no relatives, as a CA
    lists superseded certificates too. What it no longer lists stays revoked.
    """
    serial = certificate.lower().replace(":", "").lstrip("0") if certificate else None
    if serial is not None and not _SERIAL.fullmatch(serial):
        raise click.BadParameter("not a serial number in hex", param_hint="--certificate")
    wanted = (
        (RevocationKind.BOX, str(box) if box else None),
        (RevocationKind.CERTIFICATE, serial),
        (RevocationKind.SESSION, session),
    )
    given = [(kind, value) for kind, value in wanted if value]
    if len(given) + (crl is not None) != 1:
        raise click.UsageError("give one of --box, --certificate, --session, --crl")
    kind, value = given[0] if given else (RevocationKind.CERTIFICATE, "")
    listed = _serials_of(crl, path) if crl else None
    with _store(path) as store:
        family = RenewalBook(store.engine).relatives(value) if kind is RevocationKind.CERTIFICATE else [value]
        for one in family if listed is None else listed:
            if not store.is_revoked(kind, sanitised(one)[:128]):
                store.revoke(kind, sanitised(one)[:128])
                store.append({"event": "revoked", "kind": kind.value, "value": sanitised(one)[:128]})


def _serials_of(crl: Path, path: Path) -> tuple[str, ...]:
    try:
        return revoked_serials(crl.read_bytes(), _load(path).card_ca.read_bytes())
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--crl") from error


@main.command()
@_config
def audit(path: Path) -> None:
    """Print the record as JSON lines, oldest first, and check its chain. Exit 1 at the first line that was changed."""
    with _store(path) as store:
        for line in store.record():
            click.echo(json.dumps({"number": line.number, **json.loads(line.body), "digest": line.digest}))


def _load(path: Path, *, rules: bool = False) -> Config:
    """Read the settings; with `rules` also see that none is missing by which boxes are judged."""
    try:
        config = load_config(path)
        if rules:
            require_rules(config)
        return config
    except ConfigError as error:
        click.echo(f"sdbox-gateway: {error}", err=True)
        sys.exit(2)


@contextmanager
def _store(path: Path) -> Iterator[Store]:
    try:
        store = Store(_load(path).database)
        try:
            yield store
        finally:
            store.close()
    except (StoreError, SQLAlchemyError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"sdbox-gateway: {message}".replace("\n", " "), err=True)
    sys.exit(1)
