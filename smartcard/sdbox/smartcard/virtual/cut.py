"""A card that is pulled in the middle of a command.

`cut` counts what is written, for every state that a torn renewal can leave behind; `stall` counts everything.
"""

from __future__ import annotations

from typing import Final

from sdbox.smartcard.virtual.apdu import HEADER, VirtualCard
from sdbox.smartcard.virtual.passing import PullableCard
from sdbox.smartcard.virtual.sensor import Report

# Commands that change what stays on a card: CHANGE and RESET RETRY COUNTER, GENERATE, WRITE, UPDATE, PUT DATA, files.
WRITING: Final = frozenset({0x24, 0x2C, 0x46, 0x47, 0xD0, 0xD1, 0xD6, 0xD7, 0xDA, 0xDB, 0xDC, 0xE0, 0xE4})


class CutCard(PullableCard):
    """Passes everything on. After `cut(n)` it obeys n more writing commands and then answers no more, until pulled.

    The n-th is obeyed, but its answer is lost; with 0 the next one is not even obeyed. Then it reports `cut`.
    After `stall(n)` it answers n more commands of any kind, reports `stalled` at the next, and answers no more.
    """

    def __init__(self, card: VirtualCard, report: Report) -> None:
        super().__init__(card)
        self._report = report
        self._left: int | None = None
        self._answers: int | None = None

    def cut(self, writes: int | None) -> None:
        """Arm; None disarms."""
        self._left = writes

    def stall(self, commands: int | None) -> None:
        """Arm; None disarms."""
        self._answers = commands

    def process(self, apdu: bytes) -> bytes:
        if self._answers is not None:
            self._answers -= 1
            if self._answers < 0:
                self._answers = None
                return self._wait("stalled")
        if self._left is None or len(apdu) < HEADER or apdu[1] not in WRITING:
            return super().process(apdu)
        answer = super().process(apdu) if self._left else b""
        self._left = max(self._left - 1, 0)
        if self._left:
            return answer
        self._left = None
        return self._wait("cut")

    def _wait(self, event: str) -> bytes:
        """Say what happens, and answer nothing until pulled."""
        self._report(event)
        self._gone.wait()
        return b""
