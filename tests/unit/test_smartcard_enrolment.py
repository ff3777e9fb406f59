"""The first finger on an emulated PIV card: only under an operator's word for this card, for now, once."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.authorisation import (
    OPERATOR,
    Authorisation,
    SpentNumbers,
    Statement,
    authorise,
    check_authorisation,
    new_statement,
)
from sdbox.smartcard.cli import card as card_command
from sdbox.smartcard.enrolment import Desk, enrol_first_finger
from sdbox.smartcard.piv import PivApplication
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.models import MODELS, Parts
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from sdbox.smartcard.virtual.piv_admin import DEVELOPMENT_KEY
from sdbox.smartcard.virtual.piv_references import FINGER_LIMITS
from sdbox.smartcard.virtual.sensor import Sensor
from tests.unit.channel_certificates import Authority, usage

AID: Final = bytes.fromhex("A000000308000010000100")
CENTRE = Authority("centre CA")


@dataclass
class Operator:
    """Somebody with a certificate of `authority`; `role` is the URI in it."""

    authority: Authority = CENTRE
    role: str = OPERATOR
    signs: bool = True
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def certificate(self) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        issuer = self.authority.certificate
        builder = x509.CertificateBuilder(issuer.subject, issuer.subject, self.key.public_key(), 7)
        builder = builder.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(self.role)])
        builder = builder.add_extension(usage(sign=self.signs), critical=True).add_extension(names, critical=False)
        return builder.sign(self.authority.key, hashes.SHA256())

    def word(self, statement: Statement) -> bytes:
        return authorise(statement, self.certificate, self.key)


@dataclass
class Fingers:
    """A sensor: gives the touches of `names`, one after another."""

    names: list[str]

    def capture(self, seconds: float) -> bytearray | None:
        assert seconds > 0
        if not self.names:
            return None
        return capture(finger_named(self.names.pop(0)), random.Random(len(self.names)))


def card_of(finger: str = "") -> tuple[Callable[[bytearray], bytes], list[str], str]:
    """Return a card, what it reports, and its serial number."""
    events: list[str] = []
    containers = fill_containers([Project("atlas")], Issuer.create())
    made = MODELS["piv-occ"](
        Parts("12345678", containers, b"123456", Sensor(events.append), events.append, finger=finger)
    )

    def transmit(command: bytearray) -> bytes:
        return made.process(bytes(command))

    piv = PivApplication(transmit, AID)
    piv.select()
    return transmit, events, piv.serial()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    spent = SpentNumbers(tmp_path / "spent")
    sensor = Fingers(["good", "good"])
    return Desk(CENTRE.certificate, spent, DEVELOPMENT_KEY, sensor, FINGER_LIMITS, lambda _: None)


def refused(transmit: Callable[[bytearray], bytes], word: bytes, desk: Desk) -> Reason:
    with pytest.raises(Refusal) as caught:
        enrol_first_finger(transmit, AID, word, desk)
    return caught.value.reason


def test_a_finger_is_put_on_a_blank_card_and_opens_it(desk: Desk) -> None:
    transmit, events, serial = card_of()
    said: list[str] = []
    word = Operator().word(new_statement(serial, "1042", 1))
    done = enrol_first_finger(transmit, AID, word, replace(desk, say=said.append))
    assert (done.card, done.person) == (serial, "1042")
    assert said == ["touch", "touch-again"]
    assert events == ["write", "verify tries=3"]
    assert len(PivApplication(transmit, AID).fingers()) == 1


def test_an_authorisation_serves_once(desk: Desk) -> None:
    transmit, _, serial = card_of()
    word = Operator().word(new_statement(serial, "1042", 1))
    wrong = replace(desk, key=bytes(16))
    assert (
        refused(transmit, word, wrong) is Reason.CARD_FAILED
    )  # the card does not believe the key: used up all the same
    again, events, same = card_of()
    assert same == serial
    assert refused(again, word, replace(desk, sensor=Fingers(["good", "good"]))) is Reason.ENROLMENT_REFUSED
    assert events == []


def words(serial: str) -> dict[str, bytes]:
    operator, good = Operator(), new_statement(serial, "1042", 1)
    signed = msgspec.msgpack.decode(operator.word(good), type=Authorisation)
    change = msgspec.structs.replace
    return {
        "another card": operator.word(change(good, card="00" * 16)),
        "over": operator.word(change(good, begins=good.begins - 7200, ends=good.begins - 1)),
        "to come": operator.word(change(good, begins=good.begins + 60, ends=good.ends + 60)),
        "too long": operator.word(change(good, ends=good.begins + 2 * 86400)),
        "another CA": Operator(Authority("centre CA")).word(good),
        "no operator": Operator(role="urn:sdbox:project:atlas").word(good),
        "may not sign": Operator(signs=False).word(good),
        "another statement": msgspec.msgpack.encode(
            change(signed, statement=msgspec.msgpack.encode(change(good, person="1043")))
        ),
        "another operator": msgspec.msgpack.encode(
            change(signed, certificate=Operator().certificate.public_bytes(Encoding.DER))
        ),
        "cut": operator.word(good)[:-1],
        "long": operator.word(good) + bytes(9000),
        "empty": b"",
    }


@pytest.mark.parametrize("what", words("00"))
def test_what_does_not_count(what: str, desk: Desk) -> None:
    transmit, events, serial = card_of()
    assert refused(transmit, words(serial)[what], desk) is Reason.ENROLMENT_REFUSED
    assert events == []
    assert isinstance(desk.sensor, Fingers)
    assert len(desk.sensor.names) == 2, "nobody was asked for a finger"


def test_only_the_first_finger(desk: Desk) -> None:
    transmit, events, serial = card_of("good")
    word = Operator().word(new_statement(serial, "1042", 1))
    assert refused(transmit, word, desk) is Reason.ENROLMENT_REFUSED
    assert events == []


def test_no_touch_uses_nothing_up(desk: Desk) -> None:
    transmit, events, serial = card_of()
    word = Operator().word(new_statement(serial, "1042", 1))
    assert refused(transmit, word, replace(desk, sensor=Fingers([]))) is Reason.CARD_TIMEOUT
    assert events == []
    enrol_first_finger(transmit, AID, word, desk)


def test_a_finger_that_is_not_recognised_is_known_at_the_desk(desk: Desk) -> None:
    transmit, events, serial = card_of()
    word = Operator().word(new_statement(serial, "1042", 1))
    assert refused(transmit, word, replace(desk, sensor=Fingers(["good", "other"]))) is Reason.CARD_FINGER
    assert events == ["write", "verify tries=2"]


def test_the_command_signs_what_the_desk_takes(tmp_path: Path) -> None:
    operator, _, serial = Operator(), *card_of()[1:]
    certificate, key, out = (tmp_path / name for name in ("op.pem", "op.key", "word"))
    certificate.write_bytes(operator.certificate.public_bytes(Encoding.PEM))
    key.write_bytes(operator.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    given = ["authorise", "--card", serial, "--person", "1042", "--out", str(out)]
    given += ["--certificate", str(certificate), "--key", str(key)]
    assert CliRunner().invoke(card_command, given).exit_code == 0
    now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    assert check_authorisation(out.read_bytes(), CENTRE.certificate, serial, now).person == "1042"
    assert CliRunner().invoke(card_command, [*given, "--hours", "25"]).exit_code == 2
