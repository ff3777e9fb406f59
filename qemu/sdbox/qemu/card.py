"""The emulated card in a machine's reader: a child process, told what to do on its standard input.

The child is `sdbox card emulate` (part smartcard). It is another process on purpose: a card that hangs or dies must
not take the bench with it, and the bench can kill it as a card torn out is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from sdbox.qemu.child import Child
from sdbox.qemu.deadline import Overdue, wait_for
from sdbox.qemu.spec import MachineSpec

EMULATOR = ("-m", "sdbox.smartcard.cli", "emulate")


@dataclass(frozen=True, slots=True)
class CardSpec:
    """Which card: variant name, project containers in order, and who issues their certificates."""

    variant: str
    projects: tuple[str, ...]
    issuer: Path
    issuer_key: Path
    options: tuple[str, ...] = ()  # further options of `card emulate`, such as ("--fault", NAME)
    pin: str = ""  # the card's, instead of the emulator's own


class CardProcess:
    """A card near the reader of the machine `spec`, out of it until `insert`. A USB reader is unplugged at the end."""

    def __init__(self, card: CardSpec, machine: MachineSpec, work: Path) -> None:
        address = machine.card_address
        wait_for(address.is_socket, f"the card reader at {address.name}", 10)
        argv = [sys.executable, *EMULATOR, "--variant", card.variant, "--wire", machine.reader.value]
        argv += [
            "--address",
            str(address),
            "--projects",
            ",".join(card.projects),
            "--issuer",
            str(card.issuer),
            "--issuer-key",
            str(card.issuer_key),
        ]
        with ExitStack() as stack:
            fds = [stack.enter_context(_pin_pipe(card.pin)).fileno()] if card.pin else []
            options = [*card.options, *(word for fd in fds for word in ("--pin-fd", str(fd)))]
            self._child = Child("card", [*argv, *options], work / "card.log", pipes=True, pass_fds=fds)
        self._events: list[tuple[str, float]] = []
        self._reader = threading.Thread(target=self._read, name="card events", daemon=True)
        self._reader.start()

    def events(self, since: int = 0) -> Sequence[tuple[str, float]]:
        """Return the events so far, each with the host's monotonic clock when it was read."""
        return tuple(self._events[since:])

    def mark(self) -> int:
        """Return the position after the last event so far, for `since`."""
        return len(self._events)

    def wait_event(self, event: str, seconds: float = 10.0, *, since: int = 0) -> float:
        """Return when `event` (the whole line) was first seen from `since` on; Overdue with the events otherwise."""
        try:
            return wait_for(lambda: self._seen(event, since), f"the card to say {event!r}", seconds, interval=0.005)
        except Overdue as error:
            raise Overdue(f"{error}; it said {[text for text, _ in self.events(since)]}") from error

    def insert(self) -> float:
        """Put the card into the reader; returns the host's monotonic clock when that was done."""
        return self._tell_and_wait("insert", "card in")

    def remove(self) -> float:
        """Pull the card; returns the host's monotonic clock when that was done."""
        return self._tell_and_wait("remove", "card out")

    def touch(self, finger: str) -> None:
        """Touch the sensor once with `finger` ("good", "wrong", ...); it counts only while the sensor waits."""
        self.tell(f"touch {finger}")

    def auto(self, finger: str) -> None:
        """Give `finger` at once whenever the sensor waits."""
        self.tell(f"auto {finger}")

    def tell(self, command: str) -> None:
        """Send one command line to the emulator; ChildFailed if it has ended."""
        self._child.check()
        self._child.send(f"{command}\n")

    def kill(self) -> None:
        """Let the emulator die without a word, as a reader torn out does."""
        self._child.kill()

    def stop(self) -> None:
        """End the process, with the card out first: a reader torn out leaves the guest hanging in its next command."""
        if self._child.alive():
            with suppress(BrokenPipeError, Overdue):
                self._child.send("quit\n", close=True)
                self._child.wait(5)
        self._child.stop()
        self._reader.join()

    def _tell_and_wait(self, command: str, event: str) -> float:
        mark = self.mark()
        self.tell(command)
        return self.wait_event(event, since=mark)

    def _seen(self, event: str, since: int) -> float | None:
        found = next((seen for text, seen in self._events[since:] if text == event), None)
        if found is None:
            self._child.check()
        return found

    def _read(self) -> None:
        if self._child.process.stdout is not None:
            for line in self._child.process.stdout:
                self._events.append((line.decode(errors="replace").strip(), time.monotonic()))

    def __enter__(self) -> Self:
        try:
            self.wait_event("ready", 20)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _pin_pipe(pin: str) -> BinaryIO:
    """Return the end from which the PIN can be read: it is in no argument list."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(pin.encode())
    return os.fdopen(reader, "rb")
