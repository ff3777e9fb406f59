"""The emulated PIV card with on-card comparison, asked by the box's own code: keys, counter, state, enrolment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sdbox.smartcard.apdu import exchange
from sdbox.smartcard.bit import EnrolledFinger
from sdbox.smartcard.certificates import Scheme, is_signed_by, public_key_of
from sdbox.smartcard.minutiae import read_card_format, write_card_format
from sdbox.smartcard.piv import PivApplication, PivError, Verdict
from sdbox.smartcard.tlv import tlv
from sdbox.smartcard.virtual.models import MODELS, Parts
from sdbox.smartcard.virtual.personalise import Issuer, KeyKind, Project, fill_containers
from sdbox.smartcard.virtual.piv_admin import DEVELOPMENT_KEY
from sdbox.smartcard.virtual.piv_references import FINGER_LIMITS, enrolled_template
from sdbox.smartcard.virtual.sensor import Sensor

AID: Final = bytes.fromhex("A000000308000010000100")
GOOD, WRONG = enrolled_template("good"), enrolled_template("wrong")


def card_of(
    finger: str = "good", projects: Sequence[Project] = (Project("atlas"),)
) -> tuple[Callable[..., bytes], list[str]]:
    events: list[str] = []
    containers = fill_containers(projects, Issuer.create())
    parts = Parts("12345678", containers, b"123456", Sensor(events.append), events.append, finger=finger)
    card = MODELS["piv-occ"](parts)
    return lambda command: card.process(bytes(command)), events


def application(transmit: Callable[..., bytes]) -> PivApplication:
    made = PivApplication(transmit, AID)
    made.select()
    return made


def test_only_as_many_retired_certificates_are_asked_for_as_there_are() -> None:
    transmit, _ = card_of(projects=[Project(name) for name in ("atlas", "boreal", "cassini")])
    asked: list[bytes] = []

    def counting(command: bytearray) -> bytes:
        asked.append(bytes(command))
        return transmit(command)

    found = list(application(counting).certificates())
    assert [slot for slot, _ in found] == [0x9A, 0x82, 0x83]
    names = [command[5:] for command in asked if command[1] == 0xCB]
    assert len(names) == 4, "key history and three certificates"


@pytest.mark.parametrize("kind", list(KeyKind))
def test_every_kind_of_key_signs(kind: KeyKind) -> None:
    transmit, events = card_of(projects=[Project("atlas", kind=kind), Project("boreal", kind=kind)])
    card = application(transmit)
    scheme = {"p256": Scheme.ECDSA_SECP256R1_SHA256, "p384": Scheme.ECDSA_SECP384R1_SHA384}.get(
        kind.value, Scheme.RSA_PSS_RSAE_SHA256
    )
    found = list(card.certificates())
    assert card.verify(0x96, bytearray(GOOD)).verified
    for slot, certificate in found:
        key = public_key_of(certificate)
        assert key is not None
        signature = card.sign(slot, key, scheme, b"content")
        assert is_signed_by(key, scheme, b"content", signature)
    assert events.count("sign") == 2


def test_the_emulated_card_says_what_it_compares() -> None:
    card = application(card_of()[0])
    assert card.allows_comparison()
    assert card.fingers() == (EnrolledFinger(0x96, FINGER_LIMITS),)
    assert len(card.serial()) == 32
    assert card.counter(0x96) == Verdict(verified=False, tries=3)


def test_the_counter_of_the_finger() -> None:
    transmit, events = card_of()
    card = application(transmit)
    assert [card.verify(0x96, bytearray(WRONG)).tries for _ in range(2)] == [2, 1]
    assert card.verify(0x96, bytearray(GOOD)).verified
    assert [card.verify(0x96, bytearray(WRONG)).tries for _ in range(3)] == [2, 1, 0]
    assert card.verify(0x96, bytearray(GOOD)) == Verdict(verified=False, tries=0)
    assert len(events) == 6, "a blocked card compares no more"


def test_what_is_no_template_for_this_card_costs_no_try() -> None:
    transmit, events = card_of()
    card = application(transmit)
    minutiae = read_card_format(GOOD)
    few, backwards = write_card_format(minutiae[:11]), write_card_format(minutiae[::-1])
    for data in (GOOD[:-1], few, backwards, GOOD * 3):
        assert card.verify(0x96, bytearray(data)).refused_data
    assert (events, card.counter(0x96).tries) == ([], 3)


@pytest.mark.parametrize("ending", ["forget", "select", "wrong finger"])
def test_what_was_opened_is_shut_again(ending: str) -> None:
    transmit, _ = card_of()
    card = application(transmit)
    ((slot, certificate),) = card.certificates()
    key = public_key_of(certificate)
    assert key is not None
    assert card.verify(0x96, bytearray(GOOD)).verified
    card.sign(slot, key, Scheme.ECDSA_SECP256R1_SHA256, b"content")
    if ending == "forget":
        card.forget(0x96)
    elif ending == "select":
        card.select()
    else:
        card.verify(0x96, bytearray(WRONG))
    with pytest.raises(PivError, match="6982"):
        card.sign(slot, key, Scheme.ECDSA_SECP256R1_SHA256, b"content")


def administrator(transmit: Callable[..., bytes], key: bytes = DEVELOPMENT_KEY) -> bool:
    """Show the card that we hold key 9B."""
    answer = transmit(bytes.fromhex("0087089B047C02810000"))
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block, as PIV has it
    response = tlv(0x7C, tlv(0x82, encryptor.update(answer[4:20]) + encryptor.finalize()))
    return transmit(bytes.fromhex("0087089B") + bytes([len(response)]) + response) == b"\x90\x00"


def enrol(transmit: Callable[..., bytes], template: bytes) -> bytes:
    return exchange(transmit, bytes.fromhex("00240196"), template, asks=False).status.to_bytes(2, "big")


def test_a_blank_card_takes_a_finger_from_its_administrator_only() -> None:
    transmit, events = card_of(finger="")
    card = application(transmit)
    assert card.fingers() == ()
    with pytest.raises(PivError, match="6A88"):
        card.verify(0x96, bytearray(GOOD))
    assert enrol(transmit, GOOD).hex() == "6982"
    assert not administrator(transmit, bytes(16))
    assert enrol(transmit, GOOD).hex() == "6982"
    assert administrator(transmit)
    assert enrol(transmit, GOOD[:-1]).hex() == "6a80"
    assert enrol(transmit, GOOD).hex() == "9000"
    assert [finger.reference for finger in card.fingers()] == [0x96]
    assert card.verify(0x96, bytearray(GOOD)).verified
    assert events == ["write", "verify tries=3"]


def test_another_finger_replaces_the_old_one_and_a_challenge_serves_once() -> None:
    transmit, _ = card_of()
    card = application(transmit)
    assert administrator(transmit)
    card.select()
    assert enrol(transmit, WRONG).hex() == "6982", "selecting ends the administrator's session"
    assert transmit(bytes.fromhex("0087089B147C128210") + bytes(17)) == b"\x69\x82", "no challenge was given"
    assert administrator(transmit)
    assert enrol(transmit, WRONG).hex() == "9000"
    assert not card.verify(0x96, bytearray(GOOD)).verified
    assert card.verify(0x96, bytearray(WRONG)).verified
