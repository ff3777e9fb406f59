"""Every emulated card, whatever is sent to it: an answer of two bytes or more, and no signature unasked."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.smartcard.variants import load_variants, variant_named
from sdbox.smartcard.virtual.models import MODELS, Parts
from sdbox.smartcard.virtual.personalise import FilledContainer, Issuer, KeyKind, Project, fill_containers
from sdbox.smartcard.virtual.sensor import Sensor

INSTRUCTIONS = (0x20, 0x22, 0x24, 0x2A, 0x44, 0x58, 0x68, 0x84, 0x86, 0x87, 0x88, 0xA4, 0xB0, 0xB1, 0xC0, 0xCA, 0xCB)
YUBICO = (0xF7, 0xF8, 0xF9, 0xFD)
STRUCTURED = st.builds(
    lambda head, body, tail: bytes(head) + (bytes([len(body)]) + body if body else b"") + tail,
    st.tuples(
        st.sampled_from([0x00, 0x0C, 0x10, 0x80, 0x8C]),
        st.sampled_from(INSTRUCTIONS + YUBICO),
        st.integers(0, 255),
        st.integers(0, 255),
    ),
    st.binary(max_size=24),
    st.sampled_from([b"", b"\x00", b"\x10"]),
)
COMMANDS = st.lists(st.one_of(STRUCTURED, st.binary(max_size=40)), max_size=12)


@cache
def containers(kind: str) -> tuple[FilledContainer, ...]:
    """Made once, as RSA keys take their time."""
    return fill_containers([Project("atlas", kind=KeyKind(kind))], Issuer.create())


def test_each_variant_with_a_reader_is_emulated() -> None:
    assert {variant.name for variant in load_variants() if variant.atrs} == set(MODELS)


@pytest.mark.parametrize("name", sorted(MODELS))
@given(commands=COMMANDS)
@settings(max_examples=60, deadline=None)
def test_no_command_upsets_it(name: str, commands: list[bytes]) -> None:
    reports: list[str] = []
    kind = variant_named(name).kinds[0]
    parts = Parts("12345678", containers(kind), b"123456", Sensor(reports.append, 0.0), reports.append)
    card = MODELS[name](parts)
    card.process(bytes.fromhex("00A40400") + _aid(name))
    for command in commands:
        assert len(card.process(command)) >= 2
    assert "sign" not in reports


def _aid(name: str) -> bytes:
    aid = bytes.fromhex(variant_named(name).aid or "")
    return bytes([len(aid)]) + aid
