"""Which variant a card is: by its ATR, and where that is only the chip's, by its application. Costs no try."""

from __future__ import annotations

from typing import Final

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.variants import Variant, variants_for

SELECT: Final = bytes.fromhex("00A40400")  # ISO 7816-4, 11.2.2: by application identifier
FOUND: Final = (0x90, 0x61, 0x62)  # first status byte: selected, selected with data waiting, selected with a warning


def recognise(reader: str, atr: bytes) -> Variant:
    """Return the variant of the card in `reader`; Refusal(CARD_UNKNOWN) if none or several fit.

    Only a card whose ATR fits several variants is asked, for the application of each (Java Cards). The worker's first
    act is a card reset: it does not matter which application stays selected.
    """
    fitting = variants_for(atr)
    if len(fitting) > 1:
        fitting = tuple(v for v in fitting if v.aid is not None and has_application(reader, bytes.fromhex(v.aid)))
    if len(fitting) != 1:
        raise Refusal(Reason.CARD_UNKNOWN, f"{len(fitting)} variants fit ATR {atr.hex().upper()}")
    return fitting[0]


def atr_in(reader: str) -> bytes:
    """Return the ATR of the card that is in `reader` now; Refusal(CARD_FAILED) if there is none."""
    from sdbox.smartcard.pcsc import PcscError, card_in  # noqa: PLC0415 - the box starts without PC/SC (monitor.py)

    try:
        seen = card_in(reader)
    except PcscError as error:
        raise Refusal(Reason.CARD_FAILED, str(error)) from error
    if seen is None:
        raise Refusal(Reason.CARD_FAILED, "no card in the reader")
    return seen.atr


def has_application(reader: str, aid: bytes) -> bool:
    """Whether SELECT finds the application; a card that does not answer has none."""
    from sdbox.smartcard.pcsc import PcscError, ask_card  # noqa: PLC0415 - the box starts without PC/SC (monitor.py)

    try:
        answer = ask_card(reader, SELECT + bytes([len(aid)]) + aid + b"\x00")
    except PcscError:
        return False
    return len(answer) > 1 and answer[-2] in FOUND
