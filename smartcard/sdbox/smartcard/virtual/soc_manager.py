"""The SoCManager application of a card with a sensor: what OpenSC's goid-tool sends to it (src/tools/goid-tool.c).

VERIFY and CHANGE REFERENCE DATA carry no data: PIN and finger are given on the card itself. A new finger wants several
touches: the card answers 9100 until it has enough. A touch of the finger `pin` stands for the right PIN on the card's
pad. Which of the two allows a change is a real card's configuration; here both do, once they
are there.
"""

from __future__ import annotations

from typing import Final

from sdbox.smartcard.virtual.apdu import Command, Status, word
from sdbox.smartcard.virtual.sensor import Report, Sensor
from sdbox.smartcard.virtual.tries import Tries

AID: Final = bytes.fromhex("D27600017253 6F434D01")
PIN, FINGER = 0x80, 0x40
TYPED: Final = "pin"
TOUCHES: Final = 3  # of one finger until it is known
ONCE_MORE: Final = 0x9100


class SocManager:
    """Knows PIN and finger of the whole card; sensor and `tries` are also those of the SmartCard-HSM beside it."""

    def __init__(self, sensor: Sensor, tries: Tries, report: Report) -> None:
        self._sensor = sensor
        self._tries = tries
        self._report = report
        self.power()

    def power(self) -> None:
        self._allowed = False
        self._taken: list[str] = []

    def process(self, command: Command) -> bytes:
        """Answer a command that came after this application's SELECT."""
        if command.cla != 0 or command.data:
            return word(Status.NO_CLASS)
        match command.ins, command.p1:
            case 0x20, 0x00:
                return self._verify(command.p2)
            case 0x20, 0xFF:
                self.power()
                return word(Status.OK)
            case 0x24, _:
                return self._change(command.p2)
        return word(Status.NO_INSTRUCTION)

    def _verify(self, reference: int) -> bytes:
        expected = {PIN: TYPED, FINGER: self._sensor.enrolled}.get(reference)
        if expected is None:
            return word(Status.NO_REFERENCE)
        if not self._tries.left:
            return word(Status.BLOCKED)
        given = self._sensor.take()
        if given is None:
            return word(Status.NO_TOUCH)
        self._allowed = self._tries.compared(match=given == expected)
        return word(Status.OK) if self._allowed else self._tries.answer()

    def _change(self, reference: int) -> bytes:
        """Take one touch more of the new finger. One of another finger begins anew."""
        if reference != FINGER:
            return word(Status.NO_REFERENCE)
        if not self._allowed:
            return word(Status.NOT_ALLOWED)
        given = self._sensor.take()
        if given is None:
            return word(Status.NO_TOUCH)
        self._taken = [*self._taken, given] if set(self._taken) <= {given} else [given]
        if len(self._taken) < TOUCHES:
            return word(ONCE_MORE)
        self._sensor.enrolled = given
        self.power()
        self._report("finger enrolled")
        return word(Status.OK)
