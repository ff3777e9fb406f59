"""The first finger of a PIV card with on-card comparison, at an operator's desk: checked, written, tried once.

The standard leaves to the card's maker how a template is written. Here it is CHANGE REFERENCE DATA with P1 = 1
(ISO 7816-4, 11.6.7) after the administrator's key 9B has answered the card; another maker is another function.
A box never holds 9B: this runs where cards are given out, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.apdu import OK, Answer, ApduError, Transmit, exchange
from sdbox.smartcard.authorisation import SpentNumbers, Statement, check_authorisation
from sdbox.smartcard.frames import wipe
from sdbox.smartcard.minutiae import Limits, TemplateError, card_template
from sdbox.smartcard.piv import PivApplication, PivError
from sdbox.smartcard.sensor import SensorError, TouchSensor
from sdbox.smartcard.tlv import parse_tlvs, tlv

FINGER: Final = 0x96
AES_128, ADMINISTRATOR, BLOCK = 0x08, 0x9B, 16
DYNAMIC, CHALLENGE, RESPONSE = 0x7C, 0x81, 0x82
TOUCH_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What an enrolment needs besides the card. `say` tells the person what to do: `touch`, `touch-again`."""

    authority: x509.Certificate
    spent: SpentNumbers
    key: bytes = field(repr=False)  # 9B of this card, AES-128
    sensor: TouchSensor
    limits: Limits  # a blank card has no BIT that would tell
    say: Callable[[str], object]


def enrol_first_finger(transmit: Transmit, aid: bytes, authorisation: bytes, desk: Desk) -> Statement:
    """Put a finger on a card that has none, inside a transaction of the caller's; return what it was done under.

    The authorisation is used up before the first byte is written, whatever comes of it. Refusal: ENROLMENT_REFUSED,
    CARD_TIMEOUT or CARD_UNCLEAR (nothing was written), CARD_FAILED, CARD_FINGER (written, but not recognised).
    """
    card = PivApplication(transmit, aid)
    try:
        card.select()
        statement = check_authorisation(authorisation, desk.authority, card.serial(), datetime.now(UTC))
        if card.fingers():
            raise Refusal(Reason.ENROLMENT_REFUSED, "the card has a finger: this is for the first one")
        template = _touch(desk, "touch")
        try:
            desk.spent.spend(statement)
            _prove_administrator(transmit, desk.key)
            _write(transmit, template)
        finally:
            wipe(template)
        _try_once(card, desk)
    except (PivError, ApduError) as error:
        raise Refusal(Reason.CARD_FAILED, f"enrolment: {error}") from error
    return statement


def _touch(desk: Desk, what: str) -> bytearray:
    desk.say(what)
    try:
        record = desk.sensor.capture(TOUCH_SECONDS)
    except SensorError as error:
        raise Refusal(Reason.CARD_SENSOR, str(error)) from error
    if record is None:
        raise Refusal(Reason.CARD_TIMEOUT)
    try:
        return card_template(record, desk.limits)
    except TemplateError as error:
        raise Refusal(Reason.CARD_UNCLEAR, str(error)) from error
    finally:
        wipe(record)


def _prove_administrator(transmit: Transmit, key: bytes) -> None:
    """GENERAL AUTHENTICATE with 9B (SP 800-73-5 part 2, appendix A.1): the card's challenge, encrypted."""
    header = bytes((0x00, 0x87, AES_128, ADMINISTRATOR))
    asked = _expect("challenge", exchange(transmit, header, tlv(DYNAMIC, tlv(CHALLENGE))))
    try:
        ((_, inner),) = parse_tlvs(asked)
        challenge = dict(parse_tlvs(inner))[CHALLENGE]
    except (ValueError, KeyError) as error:
        raise PivError("challenge: malformed") from error
    if len(challenge) != BLOCK:
        raise PivError("challenge: wrong size")
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block, as PIV has it
    answer = tlv(DYNAMIC, tlv(RESPONSE, encryptor.update(challenge) + encryptor.finalize()))
    _expect("key 9B", exchange(transmit, header, answer, asks=False))


def _write(transmit: Transmit, template: bytearray) -> None:
    _expect("CHANGE REFERENCE DATA", exchange(transmit, bytes((0x00, 0x24, 0x01, FINGER)), template, asks=False))


def _try_once(card: PivApplication, desk: Desk) -> None:
    """Compare a second touch, once: a finger that its holder can't use is better known at the desk."""
    again = _touch(desk, "touch-again")
    try:
        if not card.verify(FINGER, again).verified:
            raise Refusal(Reason.CARD_FINGER, "the finger was put on the card, but is not recognised")
    finally:
        wipe(again)


def _expect(what: str, answer: Answer) -> bytes:
    if answer.status != OK:
        raise PivError(f"{what}: {answer.status:04X}")
    return answer.data
