"""`sdbox card`: the shipped card variants, an emulated card, and what a box would see of a card.

Example: sdbox card emulate --variant sc-hsm-bio --wire usb --address card.sock --projects atlas,boreal
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from sdbox.protocol.reasons import Refusal
from sdbox.smartcard.enrol_cli import authorise_command, enrol_command
from sdbox.smartcard.variants import VariantError, load_variants
from sdbox.smartcard.virtual.boxsensor import BoxSensor, sensor_line
from sdbox.smartcard.virtual.cvc import Holder
from sdbox.smartcard.virtual.emulator import (
    DEVELOPMENT_PIN,
    CardPlan,
    Emulator,
    HeldCard,
    Touchable,
    WireKind,
    make_card,
    open_wire,
)
from sdbox.smartcard.virtual.faults import Fault
from sdbox.smartcard.virtual.personalise import Flaw, Issuer, KeyKind, Project
from sdbox.smartcard.virtual.plug import Reader
from sdbox.smartcard.virtual.tape import TapedCard
from sdbox.smartcard.virtual.usbredir import UsbRedirError
from sdbox.smartcard.virtual.vscard import VscardError

PIN_LIMIT: Final = 64
FLAWS: Final = {
    "expired": Flaw.EXPIRED,
    "not_yet_valid": Flaw.NOT_YET_VALID,
    "late": Flaw.LATE,
    "foreign": Flaw.FOREIGN,
    "wrong_usage": Flaw.WRONG_USAGE,
    "duplicate": Flaw.OLDER,
    "odd_label": Flaw.ODD_LABEL,
    "torn": Flaw.TORN,
}


@click.group()
def card() -> None:
    """Card variants, emulated cards, what a card shows.

    Example: sdbox card variants --json
    """


@card.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def variants(*, as_json: bool) -> None:
    """List the kinds of cards that a box knows.

    Example: sdbox card variants
    """
    try:
        known = load_variants()
    except VariantError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(known), indent=2))
        return
    for variant in known:
        click.echo(f"{variant.name:<12} {variant.login.method.value:<7} {variant.title}")


def _projects(names: str, flaws: dict[Flaw, str], kind: KeyKind) -> tuple[Project, ...]:
    """Return the projects to be put on a card; click.BadParameter if a flaw names one that is not among them."""
    listed = [name for name in names.split(",") if name]
    found = {name: flaw for flaw, flawed in flaws.items() for name in flawed.split(",") if name}
    if stray := set(found) - set(listed):
        raise click.BadParameter(f"not among --projects: {', '.join(sorted(stray))}")
    older = [name for name in found if found[name] is Flaw.OLDER]
    first = [Project(name, found.get(name, Flaw.NONE), kind) for name in listed]
    return (*first, *(Project(name, kind=kind) for name in older))


def _issuer(certificate: Path | None, key: Path | None) -> Issuer:
    if (certificate is None) != (key is None):
        raise click.BadParameter("--issuer and --issuer-key go together")
    if certificate is None or key is None:
        return Issuer.create()
    try:
        return Issuer.load(certificate, key)
    except (OSError, ValueError, TypeError) as error:
        raise click.BadParameter(f"the issuer can't be used: {error}") from error


def _root(key: str | None) -> Holder | None:
    try:
        return None if key is None else Holder.load_root(Path(key))
    except (OSError, ValueError, TypeError) as error:
        raise click.BadParameter(f"the cards' root can't be used: {error}") from error


def read_pin(descriptor: int) -> bytes:
    """Read a PIN from an inherited file descriptor, up to a line's end."""
    with os.fdopen(descriptor, "rb") as stream:
        return stream.readline(PIN_LIMIT).rstrip(b"\r\n")


def _report(line: str) -> None:
    sys.stdout.write(line + "\n")  # one write: wire and command thread both report
    sys.stdout.flush()


@card.command()
@click.option("--variant", required=True, help="Which kind of card.")
@click.option("--wire", type=click.Choice([kind.value for kind in WireKind]), required=True)
@click.option("--address", required=True, help="vpcd: 127.0.0.1:PORT; else the chardev's unix socket.")
@click.option("--projects", default="atlas,boreal,cassini", show_default=True, help="Containers, in their order.")
@click.option("--issuer", type=click.Path(path_type=Path), help="Card CA, PEM. Without it: one that nobody trusts.")
@click.option("--issuer-key", type=click.Path(path_type=Path), help="Its key, PEM.")
@click.option("--card-root", help="Key (PEM) that certifies device keys. Without it: one that nobody trusts.")
@click.option("--expired", default="", help="Projects whose certificate has expired.")
@click.option("--not-yet-valid", default="", help="Projects whose certificate is not valid yet.")
@click.option("--late", default="", help="Projects whose certificate is past half of its life.")
@click.option("--foreign", default="", help="Projects whose certificate is from another CA.")
@click.option("--wrong-usage", default="", help="Projects whose key may not sign.")
@click.option("--duplicate", default="", help="Projects with a second, newer container, the last on the card.")
@click.option("--odd-label", default="", help="Projects whose container has a label that is no UTF-8.")
@click.option("--torn", default="", help="Projects whose certificate was not written to its end.")
@click.option("--keys", type=click.Choice([kind.value for kind in KeyKind]), help="Without it: the variant's first.")
@click.option("--fault", type=click.Choice([fault.value for fault in Fault]), help="What is wrong with the card.")
@click.option("--fault-at-once", is_flag=True, help="With the first command, where --fault begins at a login.")
@click.option("--pin-fd", type=int, help="Read the PIN here. Without it: 123456, for development only.")
@click.option("--touch-seconds", type=float, default=10.0, show_default=True, help="How long the sensor waits.")
@click.option("--sensor", help="Be the box's fingerprint sensor as well: pty:PATH, or unix:PATH of QEMU's chardev.")
@click.option("--tape-fd", type=int, help="Write each command and its answer here as a JSON line, PIN included.")
@click.option("--finger", default="good", show_default=True, help="Whose is enrolled on a card that compares.")
@click.option("--other", help="VARIANT:PROJECTS of a second card, for `swap`.")
def emulate(*, variant: str, wire: str, address: str, tape_fd: int | None, **options: str) -> None:
    """Be a card in an emulated reader, out of it at first.

    Reads commands on standard input, one per line: insert, remove, touch FINGER (`good` matches), auto FINGER or auto
    off, cut N (obeys N more writing commands, then is mute until removed) or cut off, stall N (the same, of all
    commands), swap (the other card takes this one's place), unplug and plug (the reader), count (what the card was
    asked since the last time), echo WORD (prints it once all before is done), quit. Prints events: ready, card in,
    card out, reader in, reader out, cut, stalled, count apdus=N bytes=N, sensor wait, sensor match, sensor nomatch,
    sensor template, sensor timeout, sensor off, asked (a login has come), verify tries=N, sign, write.

    Example: sdbox card emulate --variant piv --wire vpcd --address 127.0.0.1:7000 --projects atlas,boreal
    """
    plan = _plan(variant, options)
    with ExitStack() as stack:
        try:
            cards = [_held(each, pad=None) for each in _other(options)]
            pad = stack.enter_context(_box_sensor(options["sensor"], plan)) if options["sensor"] else None
            cards.insert(0, _held(plan, pad=pad, tape=tape_fd))
            reader = Reader(lambda: open_wire(WireKind(wire), address))
            stack.callback(reader.close)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
        except (OSError, UsbRedirError, VscardError) as error:
            raise click.ClickException(f"no reader at {address}, or no sensor: {error}") from error
        try:
            Emulator(reader, cards, _report).run(sys.stdin)
        except (OSError, UsbRedirError, VscardError) as error:
            raise click.ClickException(f"the reader is gone: {error}") from error


def _held(plan: CardPlan, *, pad: Touchable | None, tape: int | None = None) -> HeldCard:
    made, sensor = make_card(plan, _report)
    return HeldCard(made if tape is None else TapedCard(made, tape), pad or sensor, _report)


def _other(options: dict[str, Any]) -> list[CardPlan]:
    """Return the second card, without anything wrong with it."""
    variant, _, projects = (options["other"] or "").partition(":")
    if not variant:
        return []
    plain = dict.fromkeys(FLAWS, "") | {"projects": projects or "atlas,boreal"}
    return [_plan(variant, {**options, **plain, "fault": None, "keys": None, "pin_fd": None})]


@contextmanager
def _box_sensor(address: str, plan: CardPlan) -> Iterator[BoxSensor]:
    with sensor_line(address) as line, closing(BoxSensor(line, _report, plan.touch_seconds)) as sensor:
        yield sensor


def _kind(variant: str, chosen: str | None) -> KeyKind:
    if chosen is not None:
        return KeyKind(chosen)
    return next((KeyKind(known.kinds[0]) for known in load_variants() if known.name == variant), KeyKind.P256)


def _plan(variant: str, options: dict[str, Any]) -> CardPlan:
    flaws = {flaw: options[name] for name, flaw in FLAWS.items()}
    fault, descriptor = options["fault"], options["pin_fd"]
    return CardPlan(
        variant=variant,
        projects=_projects(options["projects"], flaws, _kind(variant, options["keys"])),
        issuer=_issuer(*(None if options[name] is None else Path(options[name]) for name in ("issuer", "issuer_key"))),
        pin=DEVELOPMENT_PIN if descriptor is None else read_pin(int(descriptor)),
        touch_seconds=float(options["touch_seconds"]),
        fault=None if fault is None else Fault(fault),
        fault_at_once=bool(options["fault_at_once"]),
        root=_root(options["card_root"]),
        finger=options["finger"],
    )


@card.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for a card.")
@click.option("--login", is_flag=True, help="Verify the holder (one finger, or the PIN of --pin-fd) and list projects.")
@click.option("--pin-fd", type=int, help="Read the PIN here.")
@click.option("--last-try", is_flag=True, help="Log in even if one mistake would block the card.")
def show(*, as_json: bool, wait: float, login: bool, pin_fd: int | None, last_try: bool) -> None:
    """Show what a box sees of the inserted card. Costs no try without --login.

    Example: sdbox card show --json
    """
    from sdbox.smartcard.show import Login, as_lines, look_at_card  # noqa: PLC0415 - pyscard: not needed to emulate a card

    pin = None if pin_fd is None else bytearray(read_pin(pin_fd))
    try:
        seen = look_at_card(wait, Login(pin, last_try) if login else None)
    except Refusal as refusal:
        raise click.ClickException(str(refusal)) from refusal
    click.echo(json.dumps(seen, indent=2) if as_json else "\n".join(as_lines(seen)))


@card.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for a card.")
def probe(*, as_json: bool, wait: float) -> None:
    """Tell whether the inserted card is a known variant; if not, print the draft of its file. Costs no try.

    Exit code 1 if a box would not take the card.

    Example: sdbox card probe > smartcard/variants/new-card.toml
    """
    from sdbox.smartcard.probe import draft, probe_card  # noqa: PLC0415 - pyscard: not needed to emulate a card

    try:
        seen = probe_card(wait)
    except Refusal as refusal:
        raise click.ClickException(str(refusal)) from refusal
    if as_json:
        click.echo(json.dumps(asdict(seen), indent=2))
    elif seen.variant is not None:
        click.echo(f"{seen.variant}: a box takes this card (ATR {seen.atr})")
    else:
        fit = ", ".join(seen.fitting) or "none"
        click.echo(f"no single variant fits ATR {seen.atr} (fitting: {fit}); a draft of its file follows", err=True)
        click.echo("\n".join(draft(seen)))
    if seen.variant is None:
        sys.exit(1)


card.add_command(authorise_command)
card.add_command(enrol_command)


if __name__ == "__main__":
    card()
