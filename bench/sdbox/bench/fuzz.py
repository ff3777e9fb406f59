"""Bent inputs for every parser that reads what a box, a firmware or a vendor wrote: no crash, no hang, no growth.

Mutations of recorded and made-up seeds, from a seeded generator: a failure can be made again. Whatever a parser is
given, it returns or raises the one error of its contract.
"""

from __future__ import annotations

import datetime as dt
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from cryptography.hazmat.primitives.asymmetric import ec

from sdbox.attestation.endorsement import Anchors, certificate_failures, read_certificate
from sdbox.attestation.evidencefile import EvidenceFormatError, read_evidence
from sdbox.attestation.keys import load_key
from sdbox.attestation.policy import PolicyFormatError, read_policy
from sdbox.attestation.structures import NotAQuote, StructureError, parse_quote, parse_signature
from sdbox.boot.authenticode import authenticode_sha256
from sdbox.boot.eventlog import EventLogError, parse_event_log
from sdbox.boot.firmware import FirmwareError, read_profile
from sdbox.boot.grammar import TABLES, misplaced
from sdbox.boot.microcode import parse_microcode
from sdbox.boot.notes import with_notes
from sdbox.boot.pcr import Bank
from sdbox.boot.pe import PeError
from sdbox.boot.reference import ReferenceFormatError, read_reference
from sdbox.boot.replay import ReplayError, replay, replay_quoted, verify
from sdbox.boot.secureboot import parse_variable_event, signatures
from sdbox.protocol.wire import WireError, decode_to_gateway
from sdbox.smartcard.bit import BitError, parse_bit_group
from sdbox.smartcard.minutiae import Direction, Limits, Method, Order, TemplateError, card_template
from sdbox.smartcard.sensor_frames import FrameReader

HANG_SECONDS = 5
_EK = ec.generate_private_key(ec.SECP256R1()).public_key()
_ONE_BANK = bytes(32) + b"Spec ID Event03\0" + bytes(8) + b"\x01\0\0\0\x0b\0\x20\0"  # the start of a log
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Hang(Exception):
    """One input took longer than HANG_SECONDS."""


class Broken(Exception):
    """A parser raised something outside its contract; the text has the target, the error and the input in hex."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parser, the errors of its contract, and inputs that it takes."""

    name: str
    parse: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def targets(seeds: dict[str, Sequence[bytes]]) -> list[Target]:
    """Return all targets; `seeds` by target name. A target without a seed starts from nothing."""
    table: tuple[tuple[str, Callable[[bytes], object], tuple[type[Exception], ...]], ...] = (
        ("eventlog", _event_log, (EventLogError, ReplayError)),
        ("notes", _notes, (ValueError,)),
        ("microcode", parse_microcode, (ValueError,)),
        ("quote", parse_quote, (StructureError, NotAQuote)),
        ("signature", parse_signature, (StructureError,)),
        ("key", load_key, (StructureError,)),
        ("variable", _variable, (ValueError,)),
        ("evidence", read_evidence, (EvidenceFormatError,)),
        ("reference", read_reference, (ReferenceFormatError,)),
        ("profile", read_profile, (FirmwareError,)),
        ("policy", read_policy, (PolicyFormatError,)),
        ("certificate", _certificate, (ValueError,)),
        ("image", authenticode_sha256, (PeError,)),
        ("message", decode_to_gateway, (WireError,)),
        ("minutiae", _minutiae, (TemplateError,)),
        ("bit-group", parse_bit_group, (BitError,)),
        ("sensor", lambda data: FrameReader().feed(data), ()),
    )
    return [Target(name, parse, refuses, tuple(seeds.get(name, ())) or (b"",)) for name, parse, refuses in table]


def _notes(data: bytes) -> None:
    """As the initrd's notes, and as the log that they are put behind."""
    with_notes(data, b"11 13 00\n")
    with_notes(_ONE_BANK, data)


def _event_log(data: bytes) -> None:
    """Parse, replay, and judge the order of events as the appraisal does."""
    log = parse_event_log(data)
    replay(log)
    verified = verify(log, Bank.SHA256, replay_quoted(log, Bank.SHA256, TABLES))
    for pcr in TABLES:
        misplaced(pcr, [event for event in verified.events if event.pcr == pcr])


def _minutiae(data: bytes) -> None:
    """A sensor's record, cut down to what a card takes."""
    card_template(data, Limits(1, 20, Order(Method.POLAR, Direction.DESCENDING)))


def _certificate(data: bytes) -> None:
    """Read it, and judge it as at enrolment: by itself, and as its own root."""
    certificate = read_certificate(data)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for roots in ((), (certificate,)):
        list(certificate_failures(data, _EK, Anchors(roots, (certificate,)), now))


def _variable(data: bytes) -> None:
    variable = parse_variable_event(data)
    if variable.name != "SecureBoot":
        signatures(variable.value)


def run(target: Target, chance: random.Random, count: int) -> int:
    """Give `target` as many bent inputs; returns how many it took for good. Broken or Hang with the input."""
    taken = 0
    for _ in range(count):
        data = bend(chance.choice(target.seeds), chance)
        try:
            with _limit(target.name, data):
                target.parse(data)
            taken += 1
        except target.refuses:
            continue
        except Hang:
            raise
        except Exception as error:
            raise Broken(f"{target.name}: {type(error).__name__}: {error}; input {data.hex()}") from error
    return taken


def bend(seed: bytes, chance: random.Random) -> bytes:
    """Return `seed` with one to six changes: a byte, a number, a part cut out, doubled, moved or swollen."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                size = chance.choice((1, 2, 4, 8))
                number = chance.choice(_INTERESTING) & (1 << 8 * size) - 1
                data[place : place + size] = number.to_bytes(size, chance.choice(("little", "big")))
            case 2:
                del data[place : place + chance.randrange(64)]
            case 3:
                data[place:place] = data[place : place + chance.randrange(256)]
            case 4:
                other = chance.randrange(len(data) + 1)
                data[place:place] = data[other : other + 32]
            case _:
                data[place:place] = chance.randbytes(chance.randrange(32))
    return bytes(data)


@contextmanager
def _limit(name: str, data: bytes) -> Iterator[None]:
    def late(_number: int, _frame: FrameType | None) -> None:
        raise Hang(f"{name}: more than {HANG_SECONDS} s; input {data.hex()}")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
