"""The box's fingerprint sensor: asked for one touch, it gives one template or none.

A sensor of another maker is another class with `capture`; what speaks to the card takes ISO/IEC 19794-2 records.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from sdbox.smartcard.frames import wipe
from sdbox.smartcard.sensor_frames import REPEAT_SECONDS, FrameReader, Kind, SensorFrame, encode

SENSOR: Final = Path("/dev/sdbox-sensor")  # made by udev for the box's own sensor
SENSOR_VARIABLE: Final = "SDBOX_SENSOR"  # another path: tests
SPEED: Final = termios.B115200
READ_SIZE: Final = 512
WRITE_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 3.0  # a sensor that is there says WAITING at once
NOISE_LIMIT: Final = 1 << 16


class SensorError(Exception):
    """There is no sensor, or it does not do as it should. No try was spent."""


class TouchSensor(Protocol):
    """What can be asked for a touch."""

    def capture(self, seconds: float) -> bytearray | None:
        """Wait at most `seconds` for one touch; return its record, which the caller wipes, or None if nobody came.

        SensorError. A finger that was there before is not a touch that was asked for: the sensor decides.
        """


def sensor_path() -> Path:
    """Return where the box's sensor is."""
    return Path(os.environ.get(SENSOR_VARIABLE, SENSOR))


class SerialSensor:
    """A sensor on a serial line that speaks `sensor_frames`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def capture(self, seconds: float) -> bytearray | None:
        try:
            with _line(self._path) as line:
                return _Capture(line).run(seconds)
        except (OSError, termios.error) as error:
            raise SensorError(f"sensor: {error.args[-1]}") from error


@contextmanager
def _line(path: Path) -> Iterator[int]:
    """Open the line raw and for us alone; what came before we asked is thrown away."""
    line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        tty.setraw(line, termios.TCSANOW)
        settings = termios.tcgetattr(line)
        settings[2] |= termios.CLOCAL | termios.CREAD | termios.HUPCL
        settings[4] = settings[5] = SPEED
        termios.tcsetattr(line, termios.TCSANOW, settings)
        fcntl.ioctl(line, termios.TIOCEXCL)
        termios.tcflush(line, termios.TCIOFLUSH)
        yield line
    finally:
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(line, termios.TCIFLUSH)
            fcntl.ioctl(line, termios.TIOCNXCL)
        os.close(line)


class _Capture:
    """One touch that is asked for, under a ticket of its own."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._ticket = secrets.randbits(32)
        self._reader = FrameReader()
        self._heard = False
        self._nobody = False

    def run(self, seconds: float) -> bytearray | None:
        begun = time.monotonic()
        try:
            while (now := time.monotonic()) - begun < seconds:
                self._say(Kind.ASK)
                record = self._listen(min(now + REPEAT_SECONDS, begun + seconds))
                if record is not None or self._nobody:
                    return record
                if not self._heard and time.monotonic() - begun > SILENCE_SECONDS:
                    raise SensorError("the sensor does not answer")
            self._say(Kind.CANCEL)
            return None
        finally:
            self._reader.wipe()

    def _say(self, kind: Kind) -> None:
        """Send a frame; it is shorter than any line's buffer."""
        _, writable, _ = select.select([], [self._line], [], WRITE_SECONDS)
        if not writable or os.write(self._line, frame := encode(kind, self._ticket)) != len(frame):
            raise SensorError("the sensor takes no data")

    def _listen(self, until: float) -> bytearray | None:
        """Return the record if it comes before `until` (monotonic)."""
        buffer = bytearray(READ_SIZE)
        try:
            while (left := until - time.monotonic()) > 0:
                readable, _, _ = select.select([self._line], [], [], left)
                if not readable:
                    return None
                count = os.readv(self._line, [buffer])
                if not count:
                    raise SensorError("the sensor is gone")
                with memoryview(buffer) as view:
                    record = self._first(self._reader.feed(view[:count]))
                if record is not None or self._nobody:
                    return record
        finally:
            wipe(buffer)
        return None

    def _first(self, frames: list[SensorFrame]) -> bytearray | None:
        """Return the record for our ticket; anything else is dropped, and wiped."""
        record: bytearray | None = None
        for frame in frames:
            ours = frame.ticket == self._ticket
            if ours and frame.kind is Kind.TEMPLATE and record is None:
                record = frame.payload
                continue
            self._heard = self._heard or (ours and frame.kind is Kind.WAITING)
            self._nobody = self._nobody or (ours and frame.kind is Kind.NOBODY)
            wipe(frame.payload)
            if ours and frame.kind is Kind.FAULT:
                wipe(record)
                raise SensorError("the sensor reports a fault")
        if self._reader.skipped > NOISE_LIMIT:
            raise SensorError("the sensor sends noise")
        return record
