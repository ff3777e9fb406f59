"""One short act at the reader: `python3 -m sdbox.smartcard.errand applications READER AID...` or `... reset READER`.

A card may be silent from its first command on, and nothing ends a command but the card: so even these are done in a
process that can be killed (`card_process.py`).
"""

from __future__ import annotations

import sys
from typing import Final

from sdbox.smartcard.apdu import select
from sdbox.smartcard.hardening import harden_process
from sdbox.smartcard.pcsc import PcscError, ask_card, open_inserted, reset_card

FOUND: Final = (0x90, 0x61, 0x62)  # first status byte: selected, selected with data waiting, selected with a warning
ARGUMENTS: Final = 3


def has_application(reader: str, aid: bytes) -> bool:
    """Whether SELECT finds the application; a card that can't be asked has none."""
    try:
        answer = ask_card(reader, select(aid))
    except PcscError:
        return False
    return len(answer) > 1 and answer[-2] in FOUND


def main() -> None:
    """Reset the card that has just been put in and print those of the applications that it has; or only reset it."""
    if len(sys.argv) < ARGUMENTS or sys.argv[1] not in ("applications", "reset"):
        sys.exit("usage: python3 -m sdbox.smartcard.errand applications READER AID... | reset READER")
    harden_process()
    reader = sys.argv[2]
    try:
        if sys.argv[1] == "reset":
            reset_card(reader)
            return
        open_inserted(reader)
    except PcscError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    print(*(aid for aid in sys.argv[3:] if has_application(reader, bytes.fromhex(aid))), sep="\n")


if __name__ == "__main__":
    main()
