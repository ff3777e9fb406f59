"""PC/SC, by pyscard: the only file that imports it. Watching readers, asking a retry counter, resetting a card.

pyscard's low level is used, as its card monitor hides exceptions (pyscard #167). It carries no types: everything that
leaves this file is ours.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final, Self

from smartcard import scard  # type: ignore[attr-defined]  # mypy takes our folder of the same name for it

PNP_READER: Final = "\\\\?PnP?\\Notification"  # pseudo reader: changes when a reader comes or goes
# pcscd tells nothing of a card swapped so quickly that the worker's next command has powered the new one before pcscd
# has looked: only the ATR changes then, and somebody has to look.
WAIT_MS: Final = 1_000
COUNTER_SHIFT: Final = 16  # pcsc-lite counts insertions and removals in the upper half of an event state
GONE: Final = (scard.SCARD_E_NO_READERS_AVAILABLE, scard.SCARD_E_UNKNOWN_READER, scard.SCARD_E_READER_UNAVAILABLE)

PROTOCOLS: Final = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
ANSWER_LIMIT: Final = 65538 + 2  # the longest extended answer, and its status
SETTLING: Final = (scard.SCARD_E_NO_SMARTCARD, scard.SCARD_W_REMOVED_CARD, scard.SCARD_W_UNPOWERED_CARD)
SETTLE_SECONDS: Final = 2.0
SETTLE_PAUSE: Final = 0.1


class PcscError(Exception):
    """A PC/SC call failed: the service is down, the reader or the card is gone."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: {str(scard.SCardGetErrorMessage(code)).strip()}")
        self.code = code


@dataclass(frozen=True, slots=True)
class CardSeen:
    """A card in a reader. `count` tells two insertions of the same card apart."""

    atr: bytes
    count: int


ReaderStates = Mapping[str, CardSeen]
"""Readers that hold a card."""


def _check(call: str, code: int) -> None:
    if code != scard.SCARD_S_SUCCESS:
        raise PcscError(call, code)


def _establish() -> Any:  # noqa: ANN401 - an opaque handle of pyscard
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    _check("SCardEstablishContext", code)
    return context


class ReaderWatch:
    """A PC/SC context that waits for changes at any reader. `cancel()` may be called from another thread."""

    def __init__(self) -> None:
        self._context = _establish()
        self._states: list[tuple[str, int]] = [(PNP_READER, scard.SCARD_STATE_UNAWARE)]
        self._first = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        scard.SCardReleaseContext(self._context)

    def cancel(self) -> None:
        """Wake `next_states`."""
        scard.SCardCancel(self._context)

    def next_states(self) -> ReaderStates:
        """Wait for a change, a second at most (the first call: report at once); the readers that hold a card."""
        if not self._first:
            self._wait(WAIT_MS)
        self._first = False
        return self._look()

    def _look(self) -> ReaderStates:
        known = dict(self._states)
        self._states = [(name, known.get(name, scard.SCARD_STATE_UNAWARE)) for name in (PNP_READER, *self._readers())]
        found = self._wait(0)
        return {name: seen for name, seen in found.items() if seen is not None}

    def _readers(self) -> list[str]:
        code, names = scard.SCardListReaders(self._context, [])
        if code in GONE:
            return []
        _check("SCardListReaders", code)
        return sorted(names)

    def _wait(self, milliseconds: int) -> dict[str, CardSeen | None]:
        code, changes = scard.SCardGetStatusChange(self._context, milliseconds, self._states)
        if code in (*GONE, scard.SCARD_E_CANCELLED):
            return {}
        if code != scard.SCARD_E_TIMEOUT:
            _check("SCardGetStatusChange", code)
        self._states = [(name, state & ~scard.SCARD_STATE_CHANGED) for name, state, _ in changes]
        return {name: _seen(state, bytes(atr)) for name, state, atr in changes if name != PNP_READER}


def _seen(state: int, atr: bytes) -> CardSeen | None:
    return CardSeen(atr, state >> COUNTER_SHIFT) if state & scard.SCARD_STATE_PRESENT else None


@contextmanager
def _connection(reader: str) -> Iterator[tuple[Any, int]]:
    """Share the card in `reader`; whoever uses it says how it ends."""
    context = _establish()
    try:
        code, card, protocol = scard.SCardConnect(context, reader, scard.SCARD_SHARE_SHARED, PROTOCOLS)
        _check("SCardConnect", code)
        yield card, protocol
    finally:
        scard.SCardReleaseContext(context)


def card_in(reader: str) -> CardSeen | None:
    """Return the card in `reader` without touching it: works while another process holds it."""
    context = _establish()
    try:
        asked = [(reader, scard.SCARD_STATE_UNAWARE)]
        code, states = scard.SCardGetStatusChange(context, 0, asked)
        _check("SCardGetStatusChange", code)
        ((_, state, atr),) = states
        return _seen(state, bytes(atr))
    finally:
        scard.SCardReleaseContext(context)


def reset_card(reader: str) -> None:
    """Reset the card in `reader`: whoever was logged in to it no longer is. PcscError if somebody holds it."""
    with _connection(reader) as (card, _):
        _check("SCardDisconnect", scard.SCardDisconnect(card, scard.SCARD_RESET_CARD))


def open_inserted(reader: str) -> CardSeen:
    """Reset the card that has just been put into `reader` and return it; PcscError if there is none to be reset.

    pcscd may announce a card while it still takes note of the last one's removal, and then deny it: so a few attempts.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            reset_card(reader)
            return _present(reader)
        except PcscError as error:
            if error.code not in SETTLING or time.monotonic() > deadline:
                raise
        time.sleep(SETTLE_PAUSE)


def _present(reader: str) -> CardSeen:
    seen = card_in(reader)
    if seen is None:
        raise PcscError("SCardGetStatusChange", scard.SCARD_E_NO_SMARTCARD)
    return seen


def ask_card(reader: str, command: bytes) -> bytes:
    """Send one command APDU to the card in `reader`, leaving the card's state as it is; return the response."""
    with _connection(reader) as (card, protocol):
        response = _transmit(card, protocol, command)
        scard.SCardDisconnect(card, scard.SCARD_LEAVE_CARD)
        return response


class _IoRequest(ctypes.Structure):
    """SCARD_IO_REQUEST of pcsc-lite."""

    _fields_: ClassVar = [("protocol", ctypes.c_ulong), ("length", ctypes.c_ulong)]


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libpcsclite.so.1")  # the one that pyscard has opened: its handles are this library's
    library.SCardTransmit.restype = ctypes.c_long
    return library


def _transmit(card: Any, protocol: int, command: bytes | bytearray) -> bytes:  # noqa: ANN401 - see _establish
    """Send `command` from where it stands: pyscard would copy it, and free the copies as they are (S8)."""
    buffer = command if isinstance(command, bytearray) else bytearray(command)
    answer, size = ctypes.create_string_buffer(ANSWER_LIMIT), ctypes.c_ulong(ANSWER_LIMIT)
    request = _IoRequest(protocol, ctypes.sizeof(_IoRequest))
    code = _library().SCardTransmit(
        ctypes.c_long(card),
        ctypes.byref(request),
        (ctypes.c_ubyte * len(buffer)).from_buffer(buffer),
        ctypes.c_ulong(len(buffer)),
        None,
        answer,
        ctypes.byref(size),
    )
    _check("SCardTransmit", code)
    return answer.raw[: size.value]


class CardLine:
    """A connection to the card in `reader` for a whole card session. Others may connect as well, but while a
    transaction is open they can neither talk to the card nor reset it; whoever dies in one leaves a reset card.
    """

    def __init__(self, reader: str) -> None:
        self._context = _establish()
        try:
            self._open(reader)
        except PcscError:
            scard.SCardReleaseContext(self._context)
            raise

    def _open(self, reader: str) -> None:
        found = scard.SCardConnect(self._context, reader, scard.SCARD_SHARE_SHARED, PROTOCOLS)
        _check("SCardConnect", found[0])
        _, self._card, self._protocol = found

    def begin(self) -> None:
        """Open a transaction. A reset by somebody else before it is taken note of: whatever was open then is shut."""
        code = scard.SCardBeginTransaction(self._card)
        if code == scard.SCARD_W_RESET_CARD:
            options = (scard.SCARD_SHARE_SHARED, PROTOCOLS, scard.SCARD_LEAVE_CARD)
            code, self._protocol = scard.SCardReconnect(self._card, *options)
            _check("SCardReconnect", code)
            code = scard.SCardBeginTransaction(self._card)
        _check("SCardBeginTransaction", code)

    def transmit(self, command: bytes | bytearray) -> bytes:
        """Send one command APDU and return the response; wipe `command` yourself."""
        return _transmit(self._card, self._protocol, command)

    def end(self) -> None:
        """End the transaction; the card stays as it is."""
        _check("SCardEndTransaction", scard.SCardEndTransaction(self._card, scard.SCARD_LEAVE_CARD))

    def close(self) -> None:
        """Reset the card, which also ends a transaction, and hang up. PcscError if the card could not be reset."""
        code = scard.SCardDisconnect(self._card, scard.SCARD_RESET_CARD)
        scard.SCardReleaseContext(self._context)
        _check("SCardDisconnect", code)
