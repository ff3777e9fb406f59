"""What the screen needs first of a card with a PIN: its counter, by two commands and without any module.

OpenSC reads every certificate before it says anything: 88 commands for twenty containers on a PIV card. They are read
while the user types. A card with a finger gets none of this: its sensor is off until the module asks for it.
"""

from __future__ import annotations

from typing import Final

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.pcsc import PcscError, ask_card, open_inserted
from sdbox.smartcard.values import LoginMethod, LoginStatus
from sdbox.smartcard.variants import Backend, Variant

SELECT: Final = bytes.fromhex("00A40400")
OK: Final = 0x9000
MORE_DATA: Final = 0x61
TRIES_LEFT: Final = 0x63C0
BLOCKED: Final = 0x6983


def glimpse(variant: Variant, reader: str) -> LoginStatus | None:
    """Reset the card and return its retry counter; None if it can't be known this way. Costs no try.

    Refusal(CARD_FAILED) if there is no card that answers.
    """
    counter, aid = variant.login.counter, variant.aid
    if variant.login.method is not LoginMethod.PIN or variant.backend is not Backend.PKCS11:
        return None
    if not reader or counter is None or aid is None:
        return None
    try:
        open_inserted(reader)  # nobody's earlier login is ours
        selected = ask_card(reader, SELECT + bytes([len(aid) // 2]) + bytes.fromhex(aid) + b"\x00")
        if int.from_bytes(selected[-2:], "big") != OK and selected[-2:-1] != bytes([MORE_DATA]):
            return None
        answer = int.from_bytes(ask_card(reader, bytes.fromhex(counter)), "big")
    except PcscError as error:
        raise Refusal(Reason.CARD_FAILED, f"first look: {error}") from error
    if answer == BLOCKED:
        return LoginStatus(LoginMethod.PIN, 0, final_try=False, blocked=True)
    if answer & 0xFFF0 != TRIES_LEFT:
        return None
    tries = answer & 0x0F
    return LoginStatus(LoginMethod.PIN, tries, final_try=tries == 1, blocked=tries == 0)
