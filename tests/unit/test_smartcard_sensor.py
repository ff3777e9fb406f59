"""The box's fingerprint sensor: frames, noise, tickets, one touch for one template; both ends over a real terminal."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbox.smartcard.minutiae import Limits, card_template
from sdbox.smartcard.sensor import SensorError, SerialSensor, sensor_path
from sdbox.smartcard.sensor_frames import BUFFER_LIMIT, PAYLOAD_LIMIT, FrameReader, Kind, SensorFrame, encode
from sdbox.smartcard.virtual.boxsensor import BoxSensor, sensor_line
from sdbox.smartcard.virtual.fingers import capture, finger_named

kinds = st.sampled_from(list(Kind))
tickets = st.integers(0, 0xFFFFFFFF)


def seen(frames: list[SensorFrame]) -> list[tuple[Kind, int, bytes]]:
    return [(frame.kind, frame.ticket, bytes(frame.payload)) for frame in frames]


def test_a_frame_byte_by_byte() -> None:
    # "SF", TEMPLATE, ticket 01020304, length 3, "abc", CRC-32 (gzip's) of what is before.
    assert encode(Kind.TEMPLATE, 0x01020304, b"abc").hex() == "53460401020304000361626320d141ce"


@given(
    st.lists(st.tuples(kinds, tickets, st.binary(max_size=80)), max_size=5), st.integers(1, 40), st.binary(max_size=30)
)
def test_frames_are_found_between_noise_in_any_pieces(
    sent: list[tuple[Kind, int, bytes]], size: int, noise: bytes
) -> None:
    noise = noise.replace(b"S", b"x")
    stream = b"".join(noise + bytes(encode(*frame)) for frame in sent)
    reader, found = FrameReader(), list[SensorFrame]()
    for start in range(0, len(stream), size):
        found += reader.feed(stream[start : start + size])
    assert seen(found) == sent
    assert reader.skipped == len(noise) * len(sent)


@given(st.binary(max_size=60), st.data())
def test_a_changed_bit_makes_no_frame(payload: bytes, data: st.DataObject) -> None:
    frame = encode(Kind.TEMPLATE, 7, payload)
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert FrameReader().feed(frame) == []


@given(st.binary(max_size=300))
def test_noise_never_upsets_the_reader(noise: bytes) -> None:
    reader = FrameReader()
    reader.feed(noise)
    reader.feed(b"SF" + bytes(7) + noise)
    after = [*reader.feed(bytes(PAYLOAD_LIMIT + 20)), *reader.feed(encode(Kind.WAITING, 5))]
    assert (Kind.WAITING, 5, b"") in seen(after)


def test_the_reader_holds_no_more_than_its_limit_and_nothing_after_a_wipe() -> None:
    reader = FrameReader()
    head = b"SF\x04" + bytes(4) + PAYLOAD_LIMIT.to_bytes(2, "big")
    for _ in range(100):
        reader.feed(head)
    assert len(reader._buffer) <= BUFFER_LIMIT
    held = reader._buffer
    reader.wipe()
    assert not any(held)
    assert reader.feed(encode(Kind.WAITING, 1))


def test_an_announced_length_beyond_the_limit_is_noise() -> None:
    reader = FrameReader()
    reader.feed(b"SF\x04" + bytes(4) + (PAYLOAD_LIMIT + 1).to_bytes(2, "big"))
    assert seen(reader.feed(encode(Kind.NOBODY, 3))) == [(Kind.NOBODY, 3, b"")]
    with pytest.raises(ValueError):
        encode(Kind.TEMPLATE, 1, bytes(PAYLOAD_LIMIT + 1))


def test_a_frame_does_not_show_its_template() -> None:
    assert "secret" not in repr(SensorFrame(Kind.TEMPLATE, 1, bytearray(b"secret")))


class Desk:
    """A sensor on a terminal, and what it reported."""

    def __init__(self, line: int, path: Path, seconds: float) -> None:
        self.events: list[str] = []
        self.waits = threading.Semaphore(0)
        self.sensor = BoxSensor(line, self.report, seconds)
        self.path = path

    def report(self, event: str) -> None:
        self.events.append(event)
        if event == "sensor wait":
            self.waits.release()

    def touch_when_asked(self, *fingers: str) -> threading.Thread:
        def hand() -> None:
            for finger in fingers:
                assert self.waits.acquire(timeout=5)
                self.sensor.touch(finger)

        thread = threading.Thread(target=hand)
        thread.start()
        return thread


@contextmanager
def desk(folder: Path, *, seconds: float = 10.0) -> Iterator[Desk]:
    path = folder / "sensor"
    with sensor_line(f"pty:{path}") as line:
        made = Desk(line, path, seconds)
        with closing(made.sensor):
            yield made


def test_one_touch_gives_one_template(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        hand = made.touch_when_asked("good", "good")
        first = SerialSensor(made.path).capture(5)
        second = SerialSensor(made.path).capture(5)
        hand.join()
        assert first is not None
        assert second is not None
        assert first != second, "no two touches are alike"
        assert len(card_template(first, Limits(12, 60))) % 3 == 0
        assert made.events == ["sensor wait", "sensor template"] * 2


def test_a_touch_that_nobody_asked_for_is_not_kept(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        assert not made.sensor.touch("good")
        assert SerialSensor(made.path).capture(0.3) is None
        assert "sensor template" not in made.events


def test_nobody_touches(tmp_path: Path) -> None:
    with desk(tmp_path, seconds=0.2) as made:
        assert SerialSensor(made.path).capture(10) is None
        assert made.events == ["sensor wait", "sensor timeout"]


def test_a_sensor_that_nobody_asks_any_more_stops_waiting(tmp_path: Path) -> None:
    """The worker was killed in the middle of a touch (the card was pulled): it cannot say so."""
    with desk(tmp_path) as made:
        line = os.open(made.path, os.O_RDWR | os.O_NOCTTY)
        os.write(line, encode(Kind.ASK, 42))
        assert made.waits.acquire(timeout=5)
        os.close(line)
        end = time.monotonic() + 10
        while made.events[-1] != "sensor off" and time.monotonic() < end:
            time.sleep(0.05)
        assert made.events == ["sensor wait", "sensor off"]
        assert not made.sensor.touch("good")


@contextmanager
def scripted(folder: Path, answer: bytes | None, *, ours: bool = True, kind: Kind = Kind.TEMPLATE) -> Iterator[Path]:
    """A sensor that answers each question with one frame, for the ticket asked for or for another; None: never."""
    path, stop = folder / "scripted", threading.Event()
    with sensor_line(f"pty:{path}") as line:

        def serve() -> None:
            reader = FrameReader()
            while not stop.is_set():
                try:
                    frames = reader.feed(os.read(line, 100))
                except OSError:
                    time.sleep(0.02)
                    continue
                for frame in frames:
                    if answer is not None:
                        os.write(line, encode(kind, frame.ticket if ours else frame.ticket ^ 1, answer))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            stop.set()
            other = os.open(path, os.O_RDWR | os.O_NOCTTY)
            os.write(other, b"end")
            thread.join(5)
            os.close(other)


def test_a_template_for_another_ticket_is_never_taken(tmp_path: Path) -> None:
    with scripted(tmp_path, b"template", ours=False) as path:
        assert SerialSensor(path).capture(0.5) is None
    with scripted(tmp_path, b"template") as path:
        record = SerialSensor(path).capture(0.5)
        assert bytes(record or b"") == b"template"


def test_a_fault_of_the_sensor_is_an_error(tmp_path: Path) -> None:
    with scripted(tmp_path, b"\x01", kind=Kind.FAULT) as path, pytest.raises(SensorError, match="fault"):
        SerialSensor(path).capture(5)


def test_a_mute_sensor_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdbox.smartcard.sensor.SILENCE_SECONDS", 0.2)
    with scripted(tmp_path, None) as path, pytest.raises(SensorError, match="does not answer"):
        SerialSensor(path).capture(5)


def test_no_sensor_or_none_of_ours_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="No such file"):
        SerialSensor(tmp_path / "none").capture(1)
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    with pytest.raises(SensorError):
        SerialSensor(plain).capture(1)


def test_where_the_sensor_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDBOX_SENSOR", raising=False)
    assert sensor_path() == Path("/dev/sdbox-sensor")
    monkeypatch.setenv("SDBOX_SENSOR", "/dev/other")
    assert sensor_path() == Path("/dev/other")


@pytest.mark.parametrize("address", ["", "pty", "pty:", "tcp:1", "/dev/ttyUSB0"])
def test_a_bad_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError), sensor_line(address):
        pass


def test_the_same_finger_is_never_captured_alike() -> None:
    finger, chance = finger_named("good"), random.Random(3)
    assert finger == finger_named("good")
    assert finger != finger_named("wrong")
    assert capture(finger, chance) != capture(finger, chance)
