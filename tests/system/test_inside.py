"""Inside a booted box, seen by root of the debug profile: readers, core files, a session attacked from within."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sdbox.bench.bench_storm import as_process
from sdbox.bench.bubble import ATLAS, BOREAL, DESKTOP_PORT
from sdbox.bench.hands import Hands
from sdbox.bench.lab import Lab
from sdbox.bench.network import CAMPUS_ADDRESS, CENTRE_ADDRESS
from sdbox.bench.sight import classify, desktop
from sdbox.bench.stand import Card, card_near, development_tpm, inside_request, machine_spec
from sdbox.bench.storm import CARD
from sdbox.bench.timeline import Timeline
from sdbox.image.build import build_image
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state
from tests.system.inside import (
    core_files,
    rest_of_a_session,
    secrets_about,
    what_answers,
    who_reaches_the_readers,
)

from .conftest import forget_clock, gateway_with
from .test_card_states import enter

pytestmark = [pytest.mark.system, pytest.mark.root]
PIN = "48151623"  # nothing else in the box contains it


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


def test_the_client_reaches_its_desktop_and_nothing_else(box: Inside) -> None:
    """S5, tried from within while the desktop is shown; what must answer shows that the rest was really asked."""
    desktop_of_atlas, gateway = (ATLAS.server, DESKTOP_PORT), (CENTRE_ADDRESS, 443)
    outside = {"campus": (CAMPUS_ADDRESS, 80), "other bubble": (BOREAL.server, DESKTOP_PORT)}
    bubble = {"control": desktop_of_atlas, "its other ports": (ATLAS.server, 22), "gateway": gateway, **outside}
    with card_near(box.machine, CARD) as card:
        hands = box.hands(card, "attack")
        enter(hands, "atlas")
        seen = what_answers(box.machine, bubble, {"control": gateway, "desktop": desktop_of_atlas, **outside})
        assert classify(box.machine.screenshot()) == desktop("atlas")
        hands.remove()
    assert seen["bubble"] == {name: name == "control" for name in bubble}
    for user in ("root", "sdbox-rdp"):
        assert seen[user] == {"control": True, "desktop": False, "campus": False, "other bubble": False}


def test_a_session_leaves_no_secret_where_it_could_be_read(box: Inside, tmp_path: Path) -> None:
    """S8: PIN, desktop secret and tunnel keys, in every spelling, during the session and after it; S6: what is left."""
    told = tmp_path / "told"
    settings = dataclasses.replace(
        box.lab.gateway.settings,
        reference=build_image(inside_request()).reference,
        program=(sys.executable, "-m", "tests.system.telling_gateway", str(told)),
    )
    with gateway_with(box.lab, settings), card_near(box.machine, Card("piv", ("atlas",), pin=PIN)) as card:
        hands = box.hands(card, "secrets")
        hands.wait_back()
        hands.insert(["pin"])
        hands.pin(PIN, ["pick"])
        hands.pick("atlas")
        secrets = {name: bytes.fromhex(value) for name, value in json.loads(told.read_text()).items()}
        secrets["PIN"] = PIN.encode()
        during = secrets_about(box.machine, secrets, keys=True)
        hands.remove()
        after = secrets_about(box.machine, secrets, keys=False)
        rest = rest_of_a_session(box.machine)
        box.machine.wait_console(r"sdbox-note wipe cause=card-removed picture-gone-ms=\S+ keys-wiped-ms=\S+", 10)
    for seen in (during, after):
        assert (seen["planted"], seen["found"]) == (3, [])
        assert seen["looked"] > 100
    assert during["keys"] == 1
    assert rest["clients"] == 0
    assert set(rest["links"]) == {"lo", "eth0"}
    assert box.lab.peers() == 0
    said = box.machine.console.text().encode() + box.lab.gateway.log.read_bytes()
    assert [name for name, value in secrets.items() if value in said or value.hex().encode() in said] == []
