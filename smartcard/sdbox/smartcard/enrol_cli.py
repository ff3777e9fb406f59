"""`sdbox card authorise` and `sdbox card enrol`: the desk where cards are given out."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.apdu import Transmit
from sdbox.smartcard.authorisation import SpentNumbers, Statement, authorise, new_statement
from sdbox.smartcard.enrolment import Desk, enrol_first_finger
from sdbox.smartcard.enrolment_on_card import OnCardDesk, enrol_on_card
from sdbox.smartcard.minutiae import Direction, Limits, Method, Order
from sdbox.smartcard.recognise import recognise
from sdbox.smartcard.variants import Variant

VARIANT: Final = "piv-occ"
ON_CARD: Final = {"sc-hsm-bio", "goid"}
Enrol = Callable[[Transmit, bytes, bytes], Statement]
SAID: Final = {
    "pin": "type the PIN on the card's own pad\n",
    "touch": "put the finger on the sensor\n",
    "touch-again": "once more\n",
}
KEY_BYTES: Final = 16
_file = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("authorise")
@click.option("--card", "card", required=True, help="The card's serial number, as `sdbox card show` has it.")
@click.option("--person", required=True, help="Whose finger it will be.")
@click.option("--hours", default=8.0, show_default=True, help="How long it is good for, 24 at most.")
@click.option("--certificate", required=True, type=_file, help="The operator's, PEM, by the centre's CA.")
@click.option("--key", required=True, type=_file, help="Its key, PEM.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where to write it.")
def authorise_command(*, card: str, person: str, hours: float, out: Path, **files: Path) -> None:
    """Sign that one finger may be put on one card, once.

    Example: sdbox card authorise --card 0a0b --person 1042 --certificate op.pem --key op.key --out word
    """
    if not 0 < hours <= 24:
        raise click.BadParameter("more than 0, at most 24", param_hint="--hours")
    try:
        key = load_pem_private_key(files["key"].read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise click.BadParameter("not an EC key", param_hint="--key")
        operator = x509.load_pem_x509_certificate(files["certificate"].read_bytes())
        out.write_bytes(authorise(new_statement(card, person, hours), operator, key))
    except (OSError, ValueError, TypeError) as error:
        raise click.BadParameter(str(error)) from error


@click.command("enrol")
@click.option("--reader", required=True, help="The PC/SC reader with the card.")
@click.option("--authorisation", required=True, type=_file, help="What `sdbox card authorise` wrote.")
@click.option("--ca", required=True, type=_file, help="The centre's CA, PEM.")
@click.option("--spent", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Used ones; is added to.")
@click.option("--key-fd", type=int, help="Read the key 9B of a `piv-occ` card here: AES-128, 32 hex digits.")
def enrol_command(*, reader: str, authorisation: Path, ca: Path, spent: Path, key_fd: int | None) -> None:
    """Put the first finger on a card: by the box's sensor (`piv-occ`), or by the card's own (`sc-hsm-bio`, `goid`).

    Says on standard error what the holder has to do, and has the finger compared once at the end.

    Example: sdbox card enrol --reader "Reader 00" --authorisation word --ca ca.pem --spent used.txt --key-fd 3 3<key
    """
    from sdbox.smartcard.pcsc import CardLine, PcscError, card_in  # noqa: PLC0415 - pyscard: not needed for help

    try:
        seen = card_in(reader)
        variant = asyncio.run(recognise(reader, b"" if seen is None else seen.atr))
        enrol = _enrolling(variant, x509.load_pem_x509_certificate(ca.read_bytes()), SpentNumbers(spent), key_fd)
        line = CardLine(reader)
        try:
            line.begin()
            done = enrol(line.transmit, bytes.fromhex(variant.aid or ""), authorisation.read_bytes())
        finally:
            line.close()
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error)) from error
    except (Refusal, PcscError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"card {done.card}: finger of {done.person}")


def _enrolling(variant: Variant, ca: x509.Certificate, spent: SpentNumbers, key_fd: int | None) -> Enrol:
    """Return how such a card gets its first finger; Refusal(CARD_UNKNOWN) if that is not known."""
    if variant.name in ON_CARD:
        desk = OnCardDesk(ca, spent, _say)
        return lambda transmit, aid, word: enrol_on_card(transmit, aid, word, desk)
    finger = variant.finger
    if variant.name != VARIANT or finger is None:
        raise Refusal(Reason.CARD_UNKNOWN, f"no first finger is put on {variant.name} cards here")
    if key_fd is None:
        raise click.BadParameter(f"{VARIANT} cards need it", param_hint="--key-fd")
    from sdbox.smartcard.sensor import SerialSensor, sensor_path  # noqa: PLC0415 - as above

    limits = Limits(finger.least, finger.most, Order(Method.CARTESIAN_XY, Direction.ASCENDING))
    by_sensor = Desk(ca, spent, _read_key(key_fd), SerialSensor(sensor_path()), limits, _say)
    return lambda transmit, aid, word: enrol_first_finger(transmit, aid, word, by_sensor)


def _read_key(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        key = bytes.fromhex(stream.readline(2 * KEY_BYTES + 2).decode("ascii").strip())
    if len(key) != KEY_BYTES:
        raise ValueError("a key of 16 bytes, in hex")
    return key


def _say(what: str) -> None:
    sys.stderr.write(SAID[what])
