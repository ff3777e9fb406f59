"""Which variant a card is: by its ATR, and where that is only the chip's, by its application. Costs no try."""

from __future__ import annotations

from typing import Final

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.card_process import Runner
from sdbox.smartcard.variants import Variant, variants_for

ASK_DEADLINE: Final = 30.0  # a card's answers take seconds under emulation


async def recognise(reader: str, atr: bytes, runner: Runner | None = None) -> Variant:
    """Return the variant of the card in `reader`; Refusal(CARD_UNKNOWN) if none or several fit.

    Only a card whose ATR fits several variants is asked, for the application of each (Java Cards), in a process of its
    own: Refusal(CARD_FAILED) if it does not answer. The worker's first act is a card reset: it does not matter which
    application stays selected.
    """
    fitting = variants_for(atr)
    if len(fitting) > 1:
        asked = [variant.aid for variant in fitting if variant.aid is not None]
        found = await (runner or Runner()).errand("applications", reader, *asked, deadline=ASK_DEADLINE)
        fitting = tuple(variant for variant in fitting if variant.aid in found.split())
    if len(fitting) != 1:
        raise Refusal(Reason.CARD_UNKNOWN, f"{len(fitting)} variants fit ATR {atr.hex().upper()}")
    return fitting[0]


def atr_in(reader: str) -> bytes:
    """Return the ATR of the card that is in `reader` now, without asking it; Refusal(CARD_FAILED) if there is none."""
    from sdbox.smartcard.pcsc import PcscError, card_in  # noqa: PLC0415 - the box starts without PC/SC (monitor.py)

    try:
        seen = card_in(reader)
    except PcscError as error:
        raise Refusal(Reason.CARD_FAILED, str(error)) from error
    if seen is None:
        raise Refusal(Reason.CARD_FAILED, "no card in the reader")
    return seen.atr
