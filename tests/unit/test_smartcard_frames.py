"""Frames between agent and worker: what they carry, what they refuse, and that a PIN does not stay behind."""

from __future__ import annotations

import socket

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.smartcard.certificates import Scheme, choose_scheme, project_of, public_key_of
from sdbox.smartcard.frames import (
    FRAME_LIMIT,
    Ask,
    AskClose,
    AskLogin,
    AskOpen,
    AskSign,
    AskStatus,
    FrameError,
    encode_frame,
    frame_length,
    receive_ask,
    wipe,
)
from sdbox.smartcard.virtual.personalise import Flaw, Issuer, Project, card_serial, fill_containers


@pytest.mark.parametrize(
    "ask",
    [
        AskStatus(),
        AskOpen(),
        AskLogin(None),
        AskLogin(bytearray(b"123456")),
        AskSign(b"\x01", b"content", (0x0403,)),
        AskClose(),
    ],
)
def test_frames_arrive_as_they_were(ask: Ask) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode_frame(ask))
        assert receive_ask(theirs) == ask


def test_a_closed_socket_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b"\x00\x00")
        ours.close()
        with pytest.raises(FrameError):
            receive_ask(theirs)


@pytest.mark.parametrize("body", [b"\xc1", b"\x80", b"\x81\xa1t\xa7Unknown", b"\x82\xa1t\xa9AskStatus\xa1x\x01"])
def test_garbage_is_an_error(body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(len(body).to_bytes(4, "big") + body)
        with pytest.raises(FrameError):
            receive_ask(theirs)


@pytest.mark.parametrize("length", [0, FRAME_LIMIT + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_an_error(length: int) -> None:
    with pytest.raises(FrameError):
        frame_length(length.to_bytes(4, "big"))


def test_a_pin_is_never_shown_and_can_be_wiped() -> None:
    pin = bytearray(b"123456")
    ask = AskLogin(pin)
    assert "123456" not in repr(ask)
    frame = encode_frame(ask)
    assert b"123456" in frame
    wipe(frame)
    wipe(pin)
    wipe(None)
    assert not any(frame)
    assert pin == bytes(6)


def test_a_project_is_read_from_the_certificate() -> None:
    issuer = Issuer.create()
    made = fill_containers([Project("atlas"), Project("boreal", Flaw.EXPIRED)], issuer)
    assert [project_of(container.certificate) for container in made] == ["atlas", "boreal"]


@pytest.mark.parametrize("certificate", [b"", b"\x30\x00", b"not a certificate"])
def test_a_malformed_certificate_names_no_project(certificate: bytes) -> None:
    assert project_of(certificate) is None
    assert public_key_of(certificate) is None


def test_the_scheme_fits_the_key() -> None:
    (container,) = fill_containers([Project("atlas")], Issuer.create())
    key = public_key_of(container.certificate)
    assert key is not None
    assert choose_scheme(key, [0x0804, 0x0503, 0x0403]) is Scheme.ECDSA_SECP256R1_SHA256
    assert choose_scheme(key, [0x0804, 0x0503]) is None
    assert choose_scheme(key, []) is None


def test_rsa_signs_with_pss_where_that_is_possible() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    assert choose_scheme(key, [0x0420, 0x0403, 0x0804]) is Scheme.RSA_PSS_RSAE_SHA256
    assert choose_scheme(key, [0x0420, 0x0403]) is Scheme.RSA_PKCS1_SHA256_LEGACY
    assert choose_scheme(rsa.generate_private_key(65537, 1024).public_key(), [0x0420, 0x0804]) is None  # noqa: S505 - refused


def test_a_card_keeps_its_serial() -> None:
    projects = [Project("atlas"), Project("boreal")]
    assert card_serial("piv", projects) == card_serial("piv", projects)
    assert card_serial("piv", projects) != card_serial("sc-hsm-bio", projects)
    assert len(card_serial("piv", projects)) == 8


def test_a_foreign_certificate_has_the_name_but_not_the_signature_of_the_issuer() -> None:
    issuer = Issuer.create()
    good, foreign = fill_containers([Project("atlas"), Project("boreal", Flaw.FOREIGN)], issuer)
    x509.load_der_x509_certificate(good.certificate).verify_directly_issued_by(issuer.certificate)
    with pytest.raises(InvalidSignature):
        x509.load_der_x509_certificate(foreign.certificate).verify_directly_issued_by(issuer.certificate)
