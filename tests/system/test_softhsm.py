"""A SoftHSM token in a box of the debug profile: the whole way by PIN. What that profile must never be is tested too:
accepted where production images are, or part of them. Words that the board slips in are ignored on the same boot.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import socket
from pathlib import Path

import pytest

from sdbox.bench import way
from sdbox.bench.hands import BOOT_SECONDS, Hands
from sdbox.bench.lab import Lab
from sdbox.bench.sight import classify
from sdbox.bench.softtoken import NoSlotError, SoftToken
from sdbox.bench.stand import Card, card_near, development_tpm, machine_spec, request_for
from sdbox.bench.timeline import Timeline
from sdbox.image.build import BuiltImage, build_image
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state

from .conftest import Desk, forget_clock, gateway_with

pytestmark = [pytest.mark.system, pytest.mark.root]
TOKEN = Card("softhsm")
# Each would leave a file if PID 1 took credentials from SMBIOS (systemd.system-credentials(7)).
DROP_IN = b"[Service]\nExecStartPre=+/usr/bin/touch /run/sdbox-injected-unit\n"
DROP_IN_WORD = "io.systemd.credential.binary:systemd.unit-dropin.sdbox-agent.service="
WORDS = (
    "io.systemd.credential:tmpfiles.extra=f /run/sdbox-injected-file",
    DROP_IN_WORD + base64.b64encode(DROP_IN).decode(),
)
ASK = (
    "echo; echo words $(grep -ac sdbox-injected /sys/firmware/dmi/tables/DMI) "
    "$(ls /run/credentials/@system | wc -l) $(ls /run | grep -c injected) $(grep -c injected /proc/cmdline) end\n"
)

# Who the box's fingerprint sensor belongs to, and whether the screen's user can open it. The shell may write its own
# escape sequences first, so the answer begins a line of its own.
SENSOR = "/dev/sdbox-sensor"
AS_SCREEN = "setpriv --reuid=sdbox-kiosk --regid=sdbox-kiosk --clear-groups"
ASK_SENSOR = (
    f"udevadm settle; for i in $(seq 200); do test -e {SENSOR} || sleep 0.1; done; echo; "
    f"echo sensor $(stat -L -c '%U %G %a' {SENSOR}) $({AS_SCREEN} sh -c ': <{SENSOR}' 2>/dev/null || echo shut) end\n"
)


def check_who_may_open_the_sensor(machine: Machine) -> None:
    """Templates cross it (S8): only the card worker's user may open it."""
    with socket.socket(socket.AF_UNIX) as twin:
        twin.connect(str(machine.plug_sensor()))
        machine.type_console(ASK_SENSOR)
        machine.wait_console(r"^sensor sdbox-card sdbox-card 600 shut end", 60)


def test_whole_way_with_a_token_and_only_where_debug_images_are_let_in(
    lab: Lab, pictures: Path, tmp_path: Path
) -> None:
    image = build_image(request_for(TOKEN.variant))
    spec = machine_spec(image, lab, tmp_path / "m", copy_state(development_tpm(), tmp_path / "tpm"))
    machine = Machine(dataclasses.replace(spec, words=WORDS))
    forget_clock(lab)
    with machine, card_near(machine, TOKEN) as token:
        hands = Hands(machine, token, Timeline(), pictures / "softhsm")
        hands.projects = TOKEN.projects
        hands.see(["refused"], BOOT_SECONDS, picture="production-references", booting=True)
        assert hands.last_code() == "box-image"
        machine.type_console(ASK)
        machine.wait_console(r"^words [1-9]\d* 0 0 0 end", 20)
        check_who_may_open_the_sensor(machine)
        with gateway_with(lab, dataclasses.replace(lab.gateway.settings, reference=image.reference)):
            hands.wait_back()
            result = way.go(hands, lab)
    assert result.seen == ("insert-card", "desktop:atlas", "desktop:boreal", "insert-card")
    assert result.peers_left == 0


def test_production_has_no_place_for_a_token(desk: Desk, image: BuiltImage) -> None:
    packages = {package["name"] for package in json.loads(image.manifest.read_text())["debian_packages"]}
    assert "opensc-pkcs11" in packages
    assert not {name for name in packages if "softhsm" in name}
    with desk(TOKEN) as hands:
        hands.wait_back()
        assert isinstance(hands.card, SoftToken)
        with pytest.raises(NoSlotError):
            hands.card.find_slot(2.0)
        hands.card.send()
        with pytest.raises(TimeoutError):
            hands.card.wait_event("card in", 3.0)
        assert classify(hands.machine.screenshot()) == "insert-card"
        assert "card-in" not in [phase.name for phase in hands.machine.console.phases()]
