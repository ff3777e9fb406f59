"""Reader events from PC/SC state changes, never from PKCS#11 slot events (OpenSC #2415, #3241)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from sdbox.smartcard.values import CardEvent, CardInserted, CardRemoved

if TYPE_CHECKING:
    from sdbox.smartcard.pcsc import ReaderStates, ReaderWatch

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5  # until pcscd is back
STOP_SECONDS: Final = 3.0
CANCEL_SECONDS: Final = 0.05


def differences(old: ReaderStates, new: ReaderStates) -> list[CardEvent]:
    """Return what happened between two looks at the readers, removals first.

    A card swapped between two looks shows only in the event counter: it is a removal and an insertion.
    """
    gone = [reader for reader, card in old.items() if new.get(reader) != card]
    come = [(reader, card) for reader, card in new.items() if old.get(reader) != card]
    return [CardRemoved(reader) for reader in gone] + [CardInserted(reader, card.atr) for reader, card in come]


class CardMonitor:
    """A thread that hands `CardInserted` and `CardRemoved` to `callback` (called in that thread) until `stop()`.

    Survives readers that come and go and a restart of pcscd: its death counts as removal of every card. What nobody
    expected does too, and ends the thread: `died` is told, in that thread.
    """

    def __init__(
        self, callback: Callable[[CardEvent], object], died: Callable[[Exception], object] | None = None
    ) -> None:
        self._callback = callback
        self._died = died
        self._stopping = threading.Event()
        self._watch: ReaderWatch | None = None
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="card-monitor", daemon=True)

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread; cards that are still in are not reported."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            with self._guard:
                if self._watch is not None:
                    self._watch.cancel()  # lost if the thread is just about to wait: so again
            self._thread.join(CANCEL_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._watch_readers()
        except Exception as error:
            if self._died is None:
                raise
            self._died(error)

    def _watch_readers(self) -> None:
        from sdbox.smartcard.pcsc import PcscError  # noqa: PLC0415 - loading pyscard is this thread's work, not the box's start

        while not self._stopping.is_set():
            try:
                self._follow()
            except PcscError as error:
                log.info("card monitor: %s; trying again", error)
            self._stopping.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        """Report changes until stopped; if it raises, every card has been reported as removed."""
        from sdbox.smartcard.pcsc import ReaderWatch  # noqa: PLC0415 - as above

        known: ReaderStates = {}
        with ReaderWatch() as watch:
            with self._guard:
                self._watch = watch
            try:
                while not self._stopping.is_set():
                    now = watch.next_states()
                    for event in differences(known, now):
                        self._callback(event)
                    known = now
            except Exception:
                for event in differences(known, {}):
                    self._callback(event)
                raise
            finally:
                with self._guard:
                    self._watch = None
