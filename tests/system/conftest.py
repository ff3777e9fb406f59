"""Shared boots: the image is built once, the lab stands once, the box boots once and is restored for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from sdbox.bench.golden import golden_rules
from sdbox.bench.hands import Hands
from sdbox.bench.lab import Lab
from sdbox.bench.lab_gateway import EnrolmentFailed, GatewaySettings
from sdbox.bench.stand import BOX, Card, card_near, development_tpm, machine_spec
from sdbox.bench.timeline import Timeline
from sdbox.bench.way import PROJECTS
from sdbox.host.places import cache_folder
from sdbox.image.build import BuildRequest, BuiltImage, build_image
from sdbox.qemu.machine import Machine
from sdbox.qemu.snapshot import SavedMachine, restore, save
from sdbox.qemu.tpm import copy_state

# A box at its researcher's desk: `with desk(Card(...)) as hands:` gives a restored box with that card near its reader.
Desk = Callable[[Card], AbstractContextManager[Hands]]

_numbers = itertools.count()


@contextmanager
def gateway_with(lab: Lab, settings: GatewaySettings) -> Iterator[None]:
    """Run the gateway with other settings while the block runs."""
    lab.gateway.stop()
    lab.gateway.start(settings)
    try:
        yield
    finally:
        lab.gateway.stop()
        lab.gateway.start()


@pytest.fixture(scope="session")
def image() -> BuiltImage:
    """The production image of the bench; the build is cached by its inputs."""
    return build_image(BuildRequest(output=cache_folder() / "image-production"))


@pytest.fixture(scope="session")
def lab(image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Campus, centre, gateway and two bubbles; the box of the bench is enrolled."""
    with Lab(image.reference, golden_rules(image), keep=tmp_path_factory.mktemp("lab-logs")) as lab:
        lab.gateway.enrol(BOX, development_tpm())
        yield lab


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots of the tests are kept for people to look at."""
    folder = Path("out") / "system"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def saved(image: BuiltImage, lab: Lab, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> SavedMachine:
    """A box that booted and attested, at rest.

    The gateway is stopped before: a saved connection would go on from another place than the gateway remembers. So the
    box rests in `refused` (gateway-unreachable), and each restored copy makes a connection and attests anew.
    """
    work = tmp_path_factory.mktemp("boot")
    forget_clock(lab)
    machine = Machine(machine_spec(image, lab, work / "m", copy_state(development_tpm(), work / "tpm")))
    with machine, card_near(machine, Card()) as card:
        hands = Hands(machine, card, Timeline(), pictures / "boot")
        hands.wait_ready()
        lab.gateway.stop()
        try:
            hands.see(["refused"], picture="gateway-gone")
            assert hands.last_code() == "gateway-unreachable"
            card.stop()
            return save(machine, work / "saved")
        finally:
            lab.gateway.start()


def forget_clock(lab: Lab) -> None:
    """A restored machine's TPM goes on from the past, as does a new copy of one: rightly refused, here on purpose."""
    with suppress(EnrolmentFailed):  # it has not passed since
        lab.gateway.admin("forget-clock", "--box-id", str(BOX))


@pytest.fixture
def desk(
    saved: SavedMachine, lab: Lab, pictures: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Desk]:
    """Give restored boxes; after each test no tunnel peer may be left at the gateway."""

    @contextmanager
    def sit_down(card: Card) -> Iterator[Hands]:
        work = tmp_path / f"m{next(_numbers)}"
        forget_clock(lab)
        with restore(saved, work, lab.network.add_tap()) as machine, card_near(machine, card) as process:
            hands = Hands(machine, process, Timeline(), pictures / request.node.name)
            hands.projects = card.projects or PROJECTS
            yield hands

    yield sit_down
    assert lab.peers() == 0
