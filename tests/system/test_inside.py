"""Inside a booted box, seen by root of the debug profile: who reaches its readers, who could leave a core file, and
what a short storm at its reader leaves behind (`sdbox bench storm` is the long one).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sdbox.bench.bench_storm import GROWTH_KIB, as_process, one_storm, weathered
from sdbox.bench.census import leaks_after
from sdbox.bench.hands import Hands
from sdbox.bench.lab import Lab
from sdbox.bench.stand import card_near, development_tpm, inside_request, machine_spec
from sdbox.bench.storm import CARD
from sdbox.bench.timeline import Timeline
from sdbox.image.build import build_image
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state
from tests.system.inside import core_files, who_reaches_the_readers

from .conftest import forget_clock, gateway_with

pytestmark = [pytest.mark.system, pytest.mark.root]


STORM_EVENTS, STORM_SEED = 30, 30


@dataclass(frozen=True, slots=True)
class Inside:
    machine: Machine
    lab: Lab
    pictures: Path

    def hands(self, card: object, name: str) -> Hands:
        """Sit down at the box with this card."""
        hands = Hands(self.machine, as_process(card), Timeline(), self.pictures / name)
        hands.projects = ("atlas", "boreal")
        return hands


@pytest.fixture(scope="module")
def box(lab: Lab, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A box of the debug profile that asks for a card."""
    work, image = tmp_path_factory.mktemp("inside"), build_image(inside_request())
    forget_clock(lab)
    with gateway_with(lab, dataclasses.replace(lab.gateway.settings, reference=image.reference)):
        machine = Machine(machine_spec(image, lab, work / "m", copy_state(development_tpm(), work / "tpm")))
        with machine, card_near(machine, CARD) as card:
            inside = Inside(machine, lab, pictures)
            inside.hands(card, "inside").wait_ready()
            card.stop()
            yield inside


def test_only_the_card_workers_user_reaches_the_readers(box: Inside) -> None:
    names = ("sdbox-card", "sdbox-kiosk", "sdbox-rdp", "nobody", "messagebus")
    assert who_reaches_the_readers(box.machine, names) == {name: name == "sdbox-card" for name in names}


def test_nothing_leaves_a_core_file(box: Inside) -> None:
    cores = core_files(box.machine)
    assert cores["units"] == []
    assert cores["settings"] == ["|/bin/false", "0"]
    assert cores["able"] == ["systemd"]  # it sets its own limit; DumpCore=no, and the kernel has no place for one


def test_a_short_storm_at_the_reader_loses_nothing_and_leaves_nothing(box: Inside) -> None:
    """After each gust the screen asks for what the card wants, no session outlives its card, no try is lost."""
    print(f"seed {STORM_SEED}")
    with card_near(box.machine, CARD) as near:
        card = as_process(near)
        hands = box.hands(card, "storm")
        hands.wait_ready()
        before = weathered(hands, card, box.lab)
        print(one_storm(hands, card, box.lab, STORM_SEED, events=STORM_EVENTS).what)
        assert leaks_after(box.machine, before, kib=GROWTH_KIB) == []
