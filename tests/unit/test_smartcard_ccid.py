"""The emulated CCID reader, message by message as a host's driver sends them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbox.smartcard.virtual.ccid import CcidReader
from sdbox.smartcard.virtual.ccid_descriptors import (
    MESSAGE_LIMIT,
    configuration_descriptor,
    control,
    device_descriptor,
    string_descriptor,
)

ATR = b"\x3b\x80\x01"
POWER_ON, POWER_OFF, STATUS, TRANSFER, SET_PARAMETERS, GET_PARAMETERS, ABORT = 0x62, 0x63, 0x65, 0x6F, 0x61, 0x6C, 0x72
DATA_BLOCK, SLOT_STATUS, PARAMETERS = 0x80, 0x81, 0x82
ABSENT, INACTIVE, ACTIVE, FAILED, MORE_TIME = 2, 1, 0, 0x40, 0x80
MUTE, BUSY, BAD_SLOT, BAD_LENGTH, BAD_PROTOCOL, BAD_LEVEL = 0xFE, 0xE0, 5, 1, 7, 8


class Echo:
    """A card that answers with the command."""

    atr = ATR

    def __init__(self) -> None:
        self.events: list[str] = []

    def power(self) -> None:
        self.events.append("power")

    def pulled(self) -> None:
        self.events.append("pulled")

    def process(self, apdu: bytes) -> bytes:
        self.events.append("process")
        return apdu + b"\x90\x00"


class Host:
    """The other end of the endpoints. Commands run when `finish` is called."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.notices: list[bytes] = []
        self.jobs: list[Callable[[], None]] = []
        self.card = Echo()
        self.reader = CcidReader(self.answers.append, self.notices.append, self.jobs.append)

    def send(self, kind: int, data: bytes = b"", *, special: bytes = b"\x00\x00\x00", slot: int = 0) -> None:
        self.reader.receive(struct.pack("<BIBB", kind, len(data), slot, 7) + special + data)

    def ask(self, kind: int, data: bytes = b"", *, special: bytes = bytes(3)) -> tuple[int, int, int, bytes]:
        self.send(kind, data, special=special)
        return self.last()

    def last(self) -> tuple[int, int, int, bytes]:
        """Return type, status, error and data of the only answer so far."""
        (answer,) = self.answers
        self.answers.clear()
        kind, length, slot, sequence, status, error, _ = struct.unpack_from("<BIBBBBB", answer)
        assert (length, slot, sequence) == (len(answer) - 10, 0, 7)
        return kind, status, error, answer[10:]

    def finish(self) -> None:
        for job in self.jobs:
            job()
        self.jobs.clear()


@pytest.fixture
def host() -> Host:
    """A reader with a card that has power."""
    host = Host()
    host.reader.insert(host.card)
    assert host.ask(POWER_ON) == (DATA_BLOCK, ACTIVE, 0, ATR)
    return host


def test_a_slot_tells_what_is_in_it() -> None:
    host = Host()
    assert host.ask(STATUS) == (SLOT_STATUS, ABSENT, 0, b"")
    assert host.ask(POWER_ON) == (DATA_BLOCK, FAILED | ABSENT, MUTE, b"")
    host.reader.insert(host.card)
    assert host.notices == [b"\x50\x03"]
    assert host.ask(STATUS) == (SLOT_STATUS, INACTIVE, 0, b"")
    assert host.ask(TRANSFER, b"\x00\x84\x00\x00\x08") == (DATA_BLOCK, FAILED | INACTIVE, MUTE, b"")
    host.ask(POWER_ON)
    assert host.ask(POWER_OFF) == (SLOT_STATUS, INACTIVE, 0, b"")
    host.reader.remove()
    assert host.notices == [b"\x50\x03", b"\x50\x02"]
    host.reader.remove()
    assert len(host.notices) == 2, "an empty slot has nothing to tell"


def test_there_is_room_for_one_card(host: Host) -> None:
    with pytest.raises(RuntimeError, match="there is a card"):
        host.reader.insert(Echo())


@pytest.mark.parametrize("size", [4, 5, 54, 261, 65544])
def test_commands_and_answers_of_any_length_travel_whole(host: Host, size: int) -> None:
    command = bytes(size)
    host.send(TRANSFER, command)
    assert host.answers == []
    host.finish()
    assert host.last() == (DATA_BLOCK, ACTIVE, 0, command + b"\x90\x00")


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4), st.integers(1, 64))
def test_messages_are_whole_whatever_the_packets(commands: list[bytes], size: int) -> None:
    host = Host()
    host.reader.insert(host.card)
    host.ask(POWER_ON)
    for command in commands:
        message = struct.pack("<BIBB3x", TRANSFER, len(command), 0, 7) + command
        for start in range(0, len(message), size):
            host.reader.receive(message[start : start + size])
        host.finish()
        assert host.last()[3] == command + b"\x90\x00"


def test_a_card_that_works_is_given_time_until_it_answers(host: Host) -> None:
    host.reader.ask_more_time()
    assert host.answers == [], "nothing to wait for"
    host.send(TRANSFER, b"\x00\x20\x00\x81\x00")
    for _ in range(2):
        host.reader.ask_more_time()
        assert host.last() == (DATA_BLOCK, MORE_TIME, 1, b"")
    assert host.ask(STATUS) == (SLOT_STATUS, ACTIVE, 0, b"")
    assert host.ask(TRANSFER, b"\x00\x84\x00\x00") == (DATA_BLOCK, FAILED, BUSY, b"")
    host.finish()
    assert host.last() == (DATA_BLOCK, ACTIVE, 0, b"\x00\x20\x00\x81\x00\x90\x00")
    host.reader.ask_more_time()
    assert host.answers == []


def test_a_pulled_card_ends_its_command_at_once_and_only_once(host: Host) -> None:
    host.send(TRANSFER, b"\x00\x20\x00\x81\x00")
    host.reader.remove()
    assert host.last() == (DATA_BLOCK, FAILED | ABSENT, MUTE, b"")
    assert host.card.events[-1] == "pulled"
    host.finish()
    host.reader.ask_more_time()
    assert host.answers == []
    assert "process" not in host.card.events, "a card outside does not begin a command"


def test_the_card_is_told_even_if_the_host_is_gone() -> None:
    def gone(_: bytes) -> None:
        raise BrokenPipeError

    card = Echo()
    reader = CcidReader(gone, gone, lambda _: None)
    with pytest.raises(BrokenPipeError):
        reader.insert(card)
    with pytest.raises(BrokenPipeError):
        reader.remove()
    assert card.events[-1] == "pulled"


def test_an_abort_takes_the_power_of_the_card(host: Host) -> None:
    host.send(TRANSFER, b"\x00\x20\x00\x81\x00")
    assert host.ask(ABORT) == (SLOT_STATUS, INACTIVE, 0, b"")
    assert host.card.events[-2:] == ["pulled", "power"]
    host.finish()
    assert host.answers == []


def test_a_bus_reset_forgets_half_a_message_and_the_power(host: Host) -> None:
    host.reader.receive(b"\x6f\x05")
    host.reader.reset()
    assert host.ask(STATUS) == (SLOT_STATUS, INACTIVE, 0, b"")


def test_the_protocol_is_the_host_s_choice(host: Host) -> None:
    assert host.ask(GET_PARAMETERS)[0] == PARAMETERS
    kind, status, _, data = host.ask(SET_PARAMETERS, bytes(7), special=b"\x01\x00\x00")
    assert (kind, status, len(data)) == (PARAMETERS, ACTIVE, 7)
    assert len(host.ask(GET_PARAMETERS)[3]) == 7
    assert host.ask(SET_PARAMETERS, special=b"\x02\x00\x00")[1:3] == (FAILED, BAD_PROTOCOL)


def test_what_the_reader_can_not_do_fails(host: Host) -> None:
    assert host.ask(0x6B) == (0x83, FAILED, 0, b""), "escape"
    assert host.ask(0x69) == (DATA_BLOCK, FAILED, 0, b""), "PIN entry"
    assert host.ask(0xEE) == (SLOT_STATUS, FAILED, 0, b"")
    assert host.ask(TRANSFER, b"\x00", special=b"\x00\x01\x00")[1:3] == (FAILED, BAD_LEVEL)
    host.reader.receive(struct.pack("<BIBB3x", TRANSFER, MESSAGE_LIMIT, 0, 7))
    assert host.last()[1:3] == (FAILED, BAD_LENGTH)
    host.send(STATUS, slot=1)
    assert host.answers[0][5] == 1
    assert host.answers[0][7:9] == bytes([FAILED, BAD_SLOT])


def test_the_reader_describes_itself() -> None:
    device, configuration = device_descriptor(), configuration_descriptor()
    assert len(device) == device[0] == 18
    assert int.from_bytes(configuration[2:4], "little") == len(configuration) == 93
    reader = configuration[18:72]
    assert reader[:2] == b"\x36\x21"
    protocols, features, longest = (struct.unpack_from("<I", reader, at)[0] for at in (6, 40, 44))
    assert protocols == 3, "T=0 and T=1"
    assert features & 0x70000 == 0x40000, "short and extended APDU"
    assert longest >= 10 + 65544, "a command or answer of any length in one message"


def test_requests_on_endpoint_zero() -> None:
    assert control(0x80, 6, 0x0100) == device_descriptor()
    assert control(0x80, 6, 0x0200) == configuration_descriptor()
    assert control(0x80, 6, 0x0301) == string_descriptor(1)
    assert control(0x80, 6, 0x0309) is None
    assert control(0x80, 6, 0x0600) is None, "a full speed device has no qualifier"
    assert control(0x80, 0, 0) == b"\x00\x00"
    assert control(0x02, 1, 0) == b"", "a halt is cleared"
    assert control(0xA1, 3, 0) is None
