"""The card that is in, and what its holder has done with it so far. No decision is made here."""

from __future__ import annotations

from sdbox.agent.card import CardSeat
from sdbox.protocol.values import CardIdentity
from sdbox.smartcard.values import CardInserted, CardRemoved


class Presence:
    """One card at a time; `seat` is there from its reading until its session ends."""

    def __init__(self) -> None:
        self.card: CardInserted | None = None
        self.untouched = False  # no VERIFY was begun since its insertion: that act of the user still counts (S7)
        self.seat: CardSeat | None = None
        self.last_try = False  # the user agreed to spend the card's last try, on the next VERIFY and no other
        self.wanted = ""  # the project whose bubble asks for a verification of its own
        self.cleared = ""  # the project for which that has just been given, and for nothing else
        self._serial = ""
        self._pin: bytearray | None = None

    def inserted(self, event: CardInserted) -> CardInserted | None:
        """Take note of a card; None if there is one already, in a second reader."""
        if self.card is not None:
            return None
        self.card, self.untouched = event, True
        return event

    def removed(self, event: CardRemoved) -> CardRemoved | None:
        """Take note of a removal and end the card's worker at once; None if it is not our card's."""
        if self.card is None or event.reader != self.card.reader:
            return None
        if self.seat is not None:
            self.seat.kill()
        self.card = None
        return event

    def waiting(self) -> CardInserted | None:
        """Return a card that went in before the box was ready for it, to be inserted anew."""
        card = self.card if self.untouched else None
        if card is not None:
            self.card = None
        return card

    def begin(self, seat: CardSeat) -> CardSeat:
        """Start anew with this card: nothing agreed to before counts."""
        self.untouched = self.last_try = False
        self.wanted = self.cleared = self._serial = ""
        self.seat = seat
        return seat

    def again(self, seat: CardSeat) -> CardSeat | None:
        """Sit the same card down anew, to have its holder verified again; return the old seat, to be closed first."""
        self.last_try = False
        old, self.seat = self.seat, seat
        return old

    def verified(self, card: CardIdentity) -> bool:
        """Take note of a verified holder; False if the card is not the one that was sat down."""
        same = self._serial in {"", card.serial}
        self._serial = card.serial
        self.wanted, self.cleared = "", self.wanted
        return same

    def leave(self) -> CardSeat | None:
        """Give up the seat; whoever takes it closes it."""
        seat, self.seat = self.seat, None
        self.last_try = False
        self.wanted = self.cleared = self._serial = ""
        return seat

    def take_last_try(self) -> bool:
        """Return whether the next VERIFY may be the last one: true once for each time the user said so."""
        agreed, self.last_try = self.last_try, False
        return agreed

    def keep_pin(self, pin: bytearray) -> None:
        """Take a PIN over, for one VERIFY; an older one is overwritten."""
        self.drop_pin()
        self._pin = pin

    def take_pin(self) -> bytearray | None:
        pin, self._pin = self._pin, None
        return pin

    def drop_pin(self) -> None:
        """Overwrite a PIN that was not used."""
        if self._pin is not None:
            self._pin[:] = bytes(len(self._pin))
            self._pin = None
