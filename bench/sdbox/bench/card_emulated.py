"""An emulated card in a virtual reader, as a child process that is told what to do."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

from sdbox.bench.card_places import card_root_key, places
from sdbox.bench.card_reader import PORT, Pcscd, sees_card, wait_for
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.tape import Taped, read_tape

POLLED: Final = 0.8  # seconds in which pcscd has surely looked into a reader of vpcd


class EmulatedCard:
    """`sdbox card emulate` on a vpcd wire, as a child process. What it is told is on its tape, in memory only."""

    def __init__(self, pcscd: Pcscd, variant: str, options: Sequence[str], slot: int) -> None:
        command = [sys.executable, "-m", "sdbox.smartcard.cli", "emulate", "--wire", "vpcd"]
        command += ["--address", f"127.0.0.1:{PORT + slot}", "--variant", variant, *options]
        self._pcscd, self._slot = pcscd, slot
        self.events: list[str] = []
        self._told = 0
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._tape, self._wound = os.memfd_create("tape"), 0
        self._child = subprocess.Popen(
            ["nsenter", "--target", str(pcscd.process.pid), "--net", *command, "--tape-fd", str(self._tape)],
            pass_fds=(self._tape, *(int(value) for name, value in pairwise(options) if name == "--pin-fd")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.expect("ready")

    def _read(self) -> None:
        for line in self._child.stdout or ():
            self.events.append(line.strip())
            self._queue.put(line.strip())

    def tell(self, command: str) -> None:
        """Give a command. Which finger lies on the sensor is settled when this returns: a login is quick."""
        if command.startswith("auto "):
            self._settle(command)
        else:
            self._write(command)

    def _settle(self, command: str) -> None:
        """Give a command, and wait until it is obeyed and all that was told before is read."""
        self._told += 1
        done = f"echo {self._told}"
        self._write(f"{command}\n{done}")
        wait_for(lambda: done in self.events, "the emulator to have done it")

    def _write(self, lines: str) -> None:
        if self._child.stdin is None:
            raise RuntimeError("no standard input")
        self._child.stdin.write(f"{lines}\n")
        self._child.stdin.flush()

    def expect(self, event: str, seconds: float = 10.0) -> None:
        """Read events until `event` comes."""
        end = time.monotonic() + seconds
        try:
            while self._queue.get(timeout=max(0.0, end - time.monotonic())) != event:
                pass
        except queue.Empty:
            raise TimeoutError(f"waited for {event!r}; events: {self.events}") from None

    def insert(self, *, at_once: bool = False) -> None:
        """Insert the card, after pcscd has noticed that the last one is gone (unless `at_once`).

        vpcd's reader is polled every 0.4 s. A card that comes before the poll is taken for the old one, and pcscd
        1.9.9 sees none at all once a command failed on the old connection. A USB reader tells of each change.
        """
        if not at_once:
            time.sleep(max(0.0, self._pcscd.emptied.get(self._slot, 0.0) + POLLED - time.monotonic()))
            wait_for(lambda: not sees_card(f"Virtual PCD 00 {self._slot:02}"), "PC/SC to see no card")
        self.tell("insert")
        self.expect("card in")

    def remove(self) -> None:
        self.tell("remove")
        self.expect("card out")
        self._pcscd.emptied[self._slot] = time.monotonic()

    @property
    def verifies(self) -> int:
        """Return how many logins came over the wire by now, whatever the card made of them: blocked, broken, mute."""
        self._settle("")
        return self.events.count("asked")

    def tape(self) -> tuple[Taped, ...]:
        """Return the commands that were answered since the last call."""
        content = os.pread(self._tape, os.fstat(self._tape).st_size - self._wound, self._wound)
        whole = content[: content.rfind(b"\n") + 1]
        self._wound += len(whole)
        return read_tape(whole)

    def close(self) -> None:
        self._child.kill()
        self._child.wait(10)
        self._pcscd.emptied[self._slot] = time.monotonic()
        self._reader.join(10)
        os.close(self._tape)


@contextmanager
def emulated_card(
    pcscd: Pcscd,
    variant: str,
    projects: Sequence[str] = ("atlas", "boreal"),
    options: Sequence[str] = (),
    *,
    slot: int = 0,
) -> Iterator[EmulatedCard]:
    """Run an emulated card for reader `slot` (vpcd has two)."""
    # The box has one sensor: of several cards that need it, the first one's process is it.
    sensor = variant_named(variant).wants_box_sensor and not places().sensor.is_symlink()
    own = ["--card-root", str(card_root_key()), *([f"--sensor=pty:{places().sensor}"] if sensor else [])]
    os.environ["SDBOX_SENSOR"] = str(places().sensor)
    made = ["--projects", ",".join(projects), "--keys", variant_named(variant).kinds[0]]
    card = EmulatedCard(pcscd, variant, [*made, *own, *options], slot)
    try:
        yield card
    finally:
        card.close()
        if sensor:
            places().sensor.unlink(missing_ok=True)
