"""The first finger of a card with its own sensor, at an operator's desk: no template leaves the card.

As OpenSC's goid-tool does it (`--verify-pin --new-bio`, `--verify-bio`): the SoCManager application, VERIFY of the PIN
that the holder types on the card's own pad, CHANGE REFERENCE DATA without data until the sensor has seen enough. The
desk gives the operator's word its effect; the card's own condition is that PIN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.apdu import OK, SELECT, Answer, ApduError, Transmit, exchange
from sdbox.smartcard.authorisation import SpentNumbers, Statement, check_authorisation
from sdbox.smartcard.tlv import parse_tlvs

SOC_MANAGER: Final = bytes.fromhex("D27600017253 6F434D01")
PIN, FINGER, FINGER_OF_HSM = 0x80, 0x40, 0x85
ONCE_MORE, NO_REFERENCE, END_REACHED, NOBODY = 0x9100, 0x6A88, 0x6282, 0x6286
DEVICE_CERTIFICATE: Final = bytes.fromhex("2F02")
SEQUENCE: Final = 5  # the last characters of a CHR (BSI TR-03110-3, D.2.1.4.1): OpenSC shows the serial without them
MOST_TOUCHES: Final = 12
LARGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class OnCardDesk:
    """What an enrolment needs besides the card. `say`: `pin`, `touch`, `touch-again`, on the card itself."""

    authority: x509.Certificate
    spent: SpentNumbers
    say: Callable[[str], object]


def enrol_on_card(transmit: Transmit, aid: bytes, authorisation: bytes, desk: OnCardDesk) -> Statement:
    """Put a finger on a card that has none, inside a transaction of the caller's; return what it was done under.

    The authorisation is used up before the card takes the finger, whatever comes of it. Refusal: ENROLMENT_REFUSED,
    CARD_PIN or CARD_TIMEOUT (nothing was done), CARD_FAILED, CARD_FINGER (taken, but not recognised).
    """
    try:
        _select(transmit, aid)
        serial = _serial(transmit)
        statement = check_authorisation(authorisation, desk.authority, serial, datetime.now(UTC))
        if _ask(transmit, 0x20, 0x00, FINGER_OF_HSM) != NO_REFERENCE:
            raise Refusal(Reason.ENROLMENT_REFUSED, "the card has a finger: this is for the first one")
        _select(transmit, SOC_MANAGER)
        desk.say("pin")
        _expect(_ask(transmit, 0x20, 0x00, PIN), Reason.CARD_PIN)
        desk.spent.spend(statement)
        _take_finger(transmit, desk)
        desk.say("touch-again")  # compared once: a finger that its holder can't use is better known at the desk
        _expect(_ask(transmit, 0x20, 0x00, FINGER), Reason.CARD_FINGER)
    except ApduError as error:
        raise Refusal(Reason.CARD_FAILED, f"enrolment: {error}") from error
    return statement


def _take_finger(transmit: Transmit, desk: OnCardDesk) -> None:
    desk.say("touch")
    for _ in range(MOST_TOUCHES):
        status = _ask(transmit, 0x24, 0x00, FINGER)
        if status != ONCE_MORE:
            return _expect(status, Reason.CARD_FAILED)
        desk.say("touch-again")
    raise Refusal(Reason.CARD_UNCLEAR, "the sensor has not seen enough of the finger")


def _select(transmit: Transmit, aid: bytes) -> None:
    if exchange(transmit, SELECT, aid).status != OK:
        raise Refusal(Reason.CARD_UNKNOWN, "the card lacks an application that enrolments need")


def _serial(transmit: Transmit) -> str:
    """Return the card's serial number as OpenSC shows it: of its device certificate (EF.C_DevAut)."""
    if exchange(transmit, bytes((0x00, 0xA4, 0x00, 0x00)), DEVICE_CERTIFICATE).status != OK:
        raise ApduError("no device certificate")
    content, answer = b"", Answer(b"", OK)
    while answer.status == OK and len(content) < LARGEST:
        answer = exchange(transmit, bytes((0x00, 0xB1, 0x00, 0x00)), b"\x54\x02" + len(content).to_bytes(2, "big"))
        content += answer.data
        if not answer.data:
            break
    try:
        (_, certificate), *_rest = parse_tlvs(content)
        holder = dict(parse_tlvs(dict(parse_tlvs(certificate))[0x7F4E]))[0x5F20].decode("ascii")
    except (ValueError, KeyError) as error:
        raise ApduError("malformed device certificate") from error
    return holder[:-SEQUENCE]


def _ask(transmit: Transmit, ins: int, p1: int, p2: int) -> int:
    return exchange(transmit, bytes((0x00, ins, p1, p2)), asks=False).status


def _expect(status: int, otherwise: Reason) -> None:
    if status != OK:
        raise Refusal(Reason.CARD_TIMEOUT if status == NOBODY else otherwise, f"the card said {status:04X}")
