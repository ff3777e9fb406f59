"""What cards have in common around their commands: chaining, GET RESPONSE, a PIN with its counter, refusals.

A card's handlers return the data of a good answer, or raise `CardRefusal` with a status word.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from sdbox.smartcard.virtual.apdu import MORE_DATA, SHORT, TRIES_LEFT, Command, Status, parse_command, word
from sdbox.smartcard.virtual.sensor import Report

CHAINED: Final = 0x10
CHAIN_LIMIT: Final = 4096
GET_RESPONSE: Final = 0xC0
FORGET: Final = 0xFF  # VERIFY with this P1 ends the verified state (ISO 7816-4:2013, 11.6.6)

Handler = Callable[[Command], bytes]


class CardRefusal(Exception):
    """A command is answered with this status word and no data."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


class Pin:
    """A PIN and its counter, which stays when the power goes. Never shown (S8).

    Some cards verify one PIN for several uses apart: `use` tells them apart, 0 where there is only one. `blocked` is
    the card's word for no tries left; one that does not tell (`tells`) answers with its counter even when verified.
    """

    def __init__(
        self, value: bytes, most: int, report: Report, *, blocked: int = Status.BLOCKED, tells: bool = True
    ) -> None:
        self._blocked = blocked
        self._tells = tells
        self._value = value
        self._most = most
        self._report = report
        self._verified: set[int] = set()
        self.tries = most

    def block(self) -> None:
        """Bring the counter to zero, as wrong PINs would."""
        self.tries = 0

    def forget(self, use: int | None = None) -> None:
        """End the verified state of one use, or of all."""
        self._verified -= self._verified.copy() if use is None else {use}

    def require(self, use: int = 0) -> None:
        """CardRefusal(6982) unless the PIN was given."""
        if use not in self._verified:
            raise CardRefusal(Status.NOT_ALLOWED)

    def verify(self, command: Command, use: int = 0) -> bytes:
        """VERIFY (ISO 7816-4, 11.6.6): without data it only tells the counter; P1 FF ends the verified state."""
        if command.p1 == FORGET:
            self.forget(use)
            return b""
        if command.data:
            self._compare(command.data, use)
        if use not in self._verified or not (command.data or self._tells):
            raise CardRefusal(TRIES_LEFT | self.tries if self.tries else self._blocked)
        return b""

    def _compare(self, candidate: bytes, use: int) -> None:
        """A wrong PIN costs a try, a blocked one is refused unread."""
        self._verified.discard(use)
        if not self.tries:
            return
        if secrets.compare_digest(candidate, self._value):
            self._verified.add(use)
        self.tries = self._most if use in self._verified else self.tries - 1
        self._report(f"verify tries={self.tries}")


class Application(Protocol):
    """A card's own part. `handlers` is by INS; `reset` forgets what is not stored."""

    @property
    def handlers(self) -> Mapping[int, Handler]: ...

    def reset(self) -> None: ...


class Shell:
    """Command chaining in, GET RESPONSE out (ISO 7816-4, clauses 5.3.3 and 5.3.4). No command makes it raise."""

    def __init__(self, application: Application, classes: frozenset[int] = frozenset({0})) -> None:
        self._application = application
        self._classes = classes
        self.power()

    def power(self) -> None:
        self._chain = b""
        self._answer = b""
        self._application.reset()

    def process(self, apdu: bytes) -> bytes:
        try:
            command = parse_command(apdu)
        except ValueError:
            return word(Status.WRONG_LENGTH)
        try:
            return self._dispatch(command)
        except CardRefusal as refusal:
            return word(refusal.status)
        except ValueError:  # malformed data objects, numbers out of range, points off the curve
            return word(Status.WRONG_DATA)

    def _dispatch(self, command: Command) -> bytes:
        if command.cla & ~CHAINED not in self._classes:
            raise CardRefusal(Status.NO_CLASS)
        if command.cla & CHAINED:
            self._chain = (self._chain + command.data)[:CHAIN_LIMIT]
            return word(Status.OK)
        data, self._chain = self._chain + command.data, b""
        if command.ins == GET_RESPONSE:
            return self._send(command.length)
        handler = self._application.handlers.get(command.ins)
        if handler is None:
            raise CardRefusal(Status.NO_INSTRUCTION)
        whole = Command(command.cla, command.ins, command.p1, command.p2, data, command.length)
        self._answer = b""
        self._answer = handler(whole)
        return self._send(command.length)

    def _send(self, length: int | None) -> bytes:
        size = SHORT if length is None else length
        part, self._answer = self._answer[:size], self._answer[size:]
        left = len(self._answer)
        return part + word(MORE_DATA | min(left, 0xFF) if left else Status.OK)
