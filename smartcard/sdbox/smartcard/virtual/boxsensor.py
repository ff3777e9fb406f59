"""The box's fingerprint sensor, made up: the other end of `sdbox.smartcard.sensor`, on a terminal or a unix socket.

A touch counts only while the box asks for one; one ticket gets one template, whatever lies on the sensor.
"""

from __future__ import annotations

import os
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sdbox.smartcard.frames import wipe
from sdbox.smartcard.sensor_frames import LEASE_SECONDS, FrameReader, Kind, SensorFrame, encode
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.sensor import Report

READ_SIZE: Final = 256
IDLE_SECONDS: Final = 0.2  # a terminal that nobody has open reads as broken: look again
SEND_SECONDS: Final = 5.0
JOIN_SECONDS: Final = 5.0


@contextmanager
def sensor_line(address: str) -> Iterator[int]:
    """Yield the sensor's end of a line. `pty:PATH` makes a terminal and links it there, `unix:PATH` connects.

    ValueError for another address, OSError if nothing listens.
    """
    kind, _, path = address.partition(":")
    if kind == "unix" and path:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            yield connection.fileno()
    elif kind == "pty" and path:
        ours, theirs = os.openpty()
        name = os.ttyname(theirs)
        os.close(theirs)
        Path(path).symlink_to(name)
        try:
            yield ours
        finally:
            Path(path).unlink(missing_ok=True)
            os.close(ours)
    else:
        raise ValueError("the address of a sensor is pty:PATH or unix:PATH")


class BoxSensor:
    """The sensor: a thread that answers the box, fingers from other threads. Same commands as a card's own sensor."""

    def __init__(self, line: int, report: Report, seconds: float = 10.0) -> None:
        self._line = line
        self._report = report
        self._seconds = seconds
        self._chance = random.Random()  # noqa: S311 - no two captures alike, nothing secret
        self._reader = FrameReader()
        self._guard = threading.Lock()
        self._ticket: int | None = None  # asked for, nobody came yet
        self._done: int | None = None  # the last one that was answered
        self._asked = self._begun = 0.0
        self._finger: str | None = None
        self._auto: str | None = None
        self._wake, self._woken = os.pipe()[::-1]
        self._thread = threading.Thread(target=self._serve, name="box sensor", daemon=True)
        self._thread.start()

    def touch(self, finger: str) -> bool:
        """Put a finger down; False if the box asks for none, so that it is not noticed."""
        with self._guard:
            if self._ticket is None:
                return False
            self._finger = finger
        os.write(self._wake, b"t")
        return True

    def rest(self, finger: str | None) -> None:
        """Leave a finger on the sensor (None: take it away)."""
        with self._guard:
            self._auto = finger
        os.write(self._wake, b"t")

    def close(self) -> None:
        """End the thread."""
        os.write(self._wake, b"q")
        self._thread.join(JOIN_SECONDS)
        for end in (self._wake, self._woken):
            os.close(end)

    def _serve(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the machine is gone
            while self._wait():
                self._look()

    def _wait(self) -> bool:
        """Wait for bytes, a finger or the next limit; False at the end."""
        readable, _, _ = select.select([self._line, self._woken], [], [], IDLE_SECONDS)
        if self._woken in readable and b"q" in os.read(self._woken, READ_SIZE):
            return False
        if self._line not in readable:
            return True
        try:
            data = os.read(self._line, READ_SIZE)
        except OSError:  # a terminal without its other end
            time.sleep(IDLE_SECONDS)
            return True
        for frame in self._reader.feed(data):
            self._obey(frame)
        return bool(data)

    def _obey(self, frame: SensorFrame) -> None:
        now = time.monotonic()
        if frame.kind is Kind.ASK and frame.ticket == self._ticket:
            self._asked = now
        elif frame.kind is Kind.ASK and frame.ticket != self._done:
            with self._guard:
                self._ticket, self._finger = frame.ticket, None
            self._asked = self._begun = now
            self._send(Kind.WAITING, frame.ticket)
            self._report("sensor wait")  # only now: a script that touches at this line must be noticed
        elif frame.kind is Kind.CANCEL and frame.ticket == self._ticket:
            self._end("off")

    def _look(self) -> None:
        """Answer if somebody touches, or if it is too late."""
        with self._guard:
            ticket, finger = self._ticket, self._finger or self._auto
        now = time.monotonic()
        if ticket is None:
            return
        if now - self._asked > LEASE_SECONDS:
            self._end("off")
        elif finger is not None:
            self._end("template")
            record = capture(finger_named(finger), self._chance)
            self._send(Kind.TEMPLATE, ticket, record)
            wipe(record)
        elif now - self._begun > self._seconds:
            self._end("timeout")
            self._send(Kind.NOBODY, ticket)

    def _end(self, how: str) -> None:
        with self._guard:
            self._done, self._ticket, self._finger = self._ticket, None, None
        self._report(f"sensor {how}")

    def _send(self, kind: Kind, ticket: int, payload: bytes | bytearray = b"") -> None:
        frame = encode(kind, ticket, payload)
        sent, end = 0, time.monotonic() + SEND_SECONDS
        with memoryview(frame) as view:
            while sent < len(frame) and time.monotonic() < end:
                _, writable, _ = select.select([], [self._line], [], SEND_SECONDS)
                sent += os.write(self._line, view[sent : sent + READ_SIZE]) if writable else 0
        wipe(frame)
