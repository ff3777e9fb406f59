"""A card in QEMU's own reader (usb-ccid, T=0) instead of ours: a login and both desktops over the second wire.

What is different for the box: the reader claims a PIN pad, and an answer may have to be fetched in parts (its 54-byte
error, see `sdbox.smartcard.virtual.vscard`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sdbox.bench import way
from sdbox.bench.bench_storm import as_process
from sdbox.bench.hands import Hands
from sdbox.bench.lab import Lab
from sdbox.bench.stand import Card, card_near, development_tpm, machine_spec
from sdbox.bench.timeline import Timeline
from sdbox.image.build import BuiltImage
from sdbox.qemu.machine import Machine
from sdbox.qemu.spec import Reader
from sdbox.qemu.tpm import copy_state

from .conftest import forget_clock

pytestmark = [pytest.mark.system, pytest.mark.root]


def test_a_piv_card_goes_the_whole_way_over_qemus_own_reader(
    image: BuiltImage, lab: Lab, pictures: Path, tmp_path: Path
) -> None:
    forget_clock(lab)
    spec = machine_spec(image, lab, tmp_path / "m", copy_state(development_tpm(), tmp_path / "tpm"))
    with Machine(dataclasses.replace(spec, reader=Reader.VSCARD)) as machine, card_near(machine, Card("piv")) as near:
        card = as_process(near)
        result = way.go(Hands(machine, card, Timeline(), pictures / "second-wire"), lab)
        said = [text for text, _ in card.events()]
    assert result.seen == ("insert-card", "desktop:atlas", "desktop:boreal", "insert-card")
    assert result.peers_left == 0
    assert [said.count(event) for event in ("asked", "verify tries=3")] == [1, 1]
