"""The main job, seen on the box's screen: both desktops, the lock screen after removal, nothing left at the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdbox.bench import way
from sdbox.bench.hands import Hands
from sdbox.bench.lab import Lab
from sdbox.bench.stand import Card, card_near, development_tpm, machine_spec
from sdbox.bench.timeline import Timeline
from sdbox.image.build import BuiltImage
from sdbox.qemu.machine import Machine
from sdbox.qemu.overlay import written_bytes
from sdbox.qemu.tpm import copy_state

pytestmark = [pytest.mark.system, pytest.mark.root]


def test_from_power_on_to_the_locked_screen(image: BuiltImage, lab: Lab, pictures: Path, tmp_path: Path) -> None:
    timeline = Timeline()
    machine = Machine(machine_spec(image, lab, tmp_path / "m", copy_state(development_tpm(), tmp_path / "tpm")))
    with machine, card_near(machine, Card("sc-hsm-bio")) as card:
        result = way.go(Hands(machine, card, timeline, pictures / "way"), lab)
    assert result.seen == ("insert-card", "desktop:atlas", "desktop:boreal", "insert-card")
    assert result.peers_left == 0
    assert written_bytes(image.disk, machine.spec.overlay) == 0  # S9: nothing of the work rests on the box
    names = [mark.name for mark in timeline.ordered() if mark.source == "box"]
    for phase in ("agent-start", "tls", "attested", "card-in", "verified", "offers", "grant", "handshake", "wiped"):
        assert phase in names, f"{phase} is not on the timeline: {names}"
