"""Every parser that reads what a box, a firmware, a vendor or a card wrote, and the one error of its contract.

`fuzz_process.py` gives them inputs that atheris bends towards code not yet reached.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sdbox.attestation.endorsement import Anchors, certificate_failures
from sdbox.attestation.evidencefile import EvidenceFormatError, read_evidence
from sdbox.attestation.keys import load_key
from sdbox.attestation.policy import PolicyFormatError, read_policy
from sdbox.attestation.structures import NotAQuote, StructureError, parse_quote, parse_signature
from sdbox.attestation.vendorcert import load_vendor_certificate
from sdbox.bench.fuzz_certificates import KEY, card_certificate
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
from sdbox.gateway.authenticator import ConnectionKeys, verify_authenticator
from sdbox.gateway.cards import readable
from sdbox.gateway.issuing import read_request
from sdbox.protocol.authenticator_request import certificate_request
from sdbox.protocol.reasons import Refusal
from sdbox.protocol.values import Container
from sdbox.protocol.wire import WireError, decode_to_box, decode_to_gateway
from sdbox.smartcard.apdu import ApduError, Transmit, exchange
from sdbox.smartcard.bit import BitError, parse_bit_group
from sdbox.smartcard.certificates import Scheme, choose_scheme, project_of, public_key_of
from sdbox.smartcard.frames import FrameError, decode_ask, decode_tell
from sdbox.smartcard.judgement import judge
from sdbox.smartcard.minutiae import Direction, Limits, Method, Order, TemplateError, card_template
from sdbox.smartcard.piv import AUTHENTICATION, PivApplication, PivError, gunzip
from sdbox.smartcard.sensor_frames import FrameReader
from sdbox.smartcard.tlv import parse_tlvs
from sdbox.smartcard.virtual.ccid import CcidReader

_EK = KEY.public_key()
_KEYS = ConnectionKeys("sha256", bytes(32), bytes(32))
_REQUEST = certificate_request(b"context")
_ONE_BANK = bytes(32) + b"Spec ID Event03\0" + bytes(8) + b"\x01\0\0\0\x0b\0\x20\0"  # the start of a log
_AID = bytes.fromhex("A000000308000010000100")
Parse = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Target:
    """A parser and the errors of its contract: given anything, it returns or raises one of these."""

    name: str
    parse: Parse
    refuses: tuple[type[Exception], ...]

    def __call__(self, data: bytes) -> None:
        """Parse; whatever is not of the contract passes."""
        with suppress(*self.refuses):
            self.parse(data)


def targets() -> dict[str, Target]:
    """Return all targets by name."""
    table: tuple[tuple[str, Parse, tuple[type[Exception], ...]], ...] = (
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
        ("reply", decode_to_box, (WireError,)),
        ("minutiae", _minutiae, (TemplateError,)),
        ("sensor", lambda data: FrameReader().feed(data), ()),
        ("bit-group", parse_bit_group, (BitError,)),
        ("tlv", lambda data: list(parse_tlvs(data)), (ValueError,)),
        ("apdu", lambda data: exchange(_card(data), bytes(4), bytes(300)), (ApduError,)),
        ("piv", _piv, ()),
        ("piv-certificate", gunzip, (PivError,)),
        ("container", _container, ()),
        ("card-proof", lambda data: readable([data]), ()),
        ("authenticator", lambda data: verify_authenticator(_KEYS, _REQUEST, data), (Refusal,)),
        ("renewal-request", lambda data: read_request(card_certificate(), data, ("p256",)), (Refusal,)),
        ("worker-ask", decode_ask, (FrameError,)),
        ("worker-tell", decode_tell, (FrameError,)),
        ("ccid", _ccid, ()),
    )
    return {name: Target(name, parse, refuses) for name, parse, refuses in table}


def answers(*parts: bytes) -> bytes:
    """Return an input for the targets that are a card: each answer after its length, two bytes."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def _event_log(data: bytes) -> None:
    """Parse, replay, and judge the order of events as the appraisal does."""
    log = parse_event_log(data)
    replay(log)
    verified = verify(log, Bank.SHA256, replay_quoted(log, Bank.SHA256, TABLES))
    for pcr in TABLES:
        misplaced(pcr, [event for event in verified.events if event.pcr == pcr])


def _notes(data: bytes) -> None:
    """As the initrd's notes, and as the log that they are put behind."""
    with_notes(data, b"11 13 00\n")
    with_notes(_ONE_BANK, data)


def _minutiae(data: bytes) -> None:
    """A sensor's record, cut down to what a card takes."""
    card_template(data, Limits(1, 20, Order(Method.POLAR, Direction.DESCENDING)))


def _certificate(data: bytes) -> None:
    """Read it, and judge it as at enrolment: by itself, and as its own root."""
    certificate = load_vendor_certificate(data)
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for roots in ((), (certificate,)):
        list(certificate_failures(data, _EK, Anchors(roots, (certificate,)), now))


def _variable(data: bytes) -> None:
    variable = parse_variable_event(data)
    if variable.name != "SecureBoot":
        signatures(variable.value)


def _card(data: bytes) -> Transmit:
    """A card that answers with the parts of `data` one after the other, and then not at all."""
    parts: list[bytes] = []
    while len(data) >= 2:
        end = 2 + int.from_bytes(data[:2], "big")
        parts.append(data[2:end])
        data = data[end:]
    left = iter(parts)
    return lambda _: next(left, b"")


def _piv(data: bytes) -> None:
    """Ask a card everything that a box asks of one; whatever it says, only PivError comes of it."""
    card = PivApplication(_card(data), _AID)
    key = _EK
    steps: tuple[Callable[[], object], ...] = (
        card.select,
        card.allows_comparison,
        card.fingers,
        card.serial,
        lambda: list(card.certificates()),
        lambda: card.counter(0x96),
        lambda: card.sign(AUTHENTICATION, key, Scheme.ECDSA_SECP256R1_SHA256, b"content"),
    )
    for step in steps:
        with suppress(PivError):
            step()


def _container(data: bytes) -> None:
    """A certificate from a card: whatever it is, it only opens nothing."""
    judge([Container(b"\x01", "label", data, "atlas")], dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    project_of(data)
    key = public_key_of(data)
    if key is not None:
        choose_scheme(key, list(Scheme))


class _Echo:
    """A card that answers each command with itself."""

    atr = bytes.fromhex("3B80800101")

    def power(self) -> None:
        """Nothing is kept."""

    def process(self, apdu: bytes) -> bytes:
        return apdu + b"\x90\x00"

    def pulled(self) -> None:
        """It waits for nothing."""


def _ccid(data: bytes) -> None:
    """What a guest sends to the emulated reader, cut in two."""
    reader = CcidReader(lambda _: None, lambda _: None, lambda work: work())
    reader.insert(_Echo())
    reader.receive(data[: len(data) // 2])
    reader.receive(data[len(data) // 2 :])
    reader.remove()
