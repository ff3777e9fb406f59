"""What the screen needs first of a card with a PIN: its counter, by two commands and without any module.

OpenSC reads every certificate before it says anything: 88 commands for twenty containers on a PIV card. They are read
while the user types. A card with a finger gets none of this: its sensor is off until the module asks for it.
"""

from __future__ import annotations

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.apdu import MORE_DATA, OK, select, tries_in
from sdbox.smartcard.pcsc import PcscError, ask_card, open_inserted
from sdbox.smartcard.values import LoginMethod, LoginStatus
from sdbox.smartcard.variants import Backend, Variant


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
        selected = ask_card(reader, select(bytes.fromhex(aid)))
        if int.from_bytes(selected[-2:], "big") != OK and selected[-2:-1] != bytes([MORE_DATA]):
            return None
        answer = int.from_bytes(ask_card(reader, bytes.fromhex(counter)), "big")
    except PcscError as error:
        raise Refusal(Reason.CARD_FAILED, f"first look: {error}") from error
    tries = tries_in(answer)
    if tries is None:
        return None
    return LoginStatus(LoginMethod.PIN, tries, final_try=tries == 1, blocked=tries == 0)
