"""`sdbox card enrol` at a real PC/SC service: a blank card, an operator's word, key 9B, two touches; then it opens."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, running_pcscd, sees_card, wait_for
from sdbox.smartcard.authorisation import new_statement
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.pcsc import CardLine
from sdbox.smartcard.piv import PivApplication
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import Project, card_serial
from sdbox.smartcard.virtual.piv_admin import DEVELOPMENT_KEY
from sdbox.smartcard.virtual.soc_manager import TOUCHES
from tests.unit.test_smartcard_enrolment import CENTRE, Operator

pytestmark = pytest.mark.root
NAME = "piv-occ"


def serial_of_card() -> str:
    line = CardLine(READER)
    try:
        line.begin()
        card = PivApplication(line.transmit, bytes.fromhex(variant_named(NAME).aid or ""))
        card.select()
        return card.serial()
    finally:
        line.close()


def enrol(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command at the desk of `folder`; the key comes over a pipe, never over the command line."""
    reading, writing = os.pipe()
    os.write(writing, DEVELOPMENT_KEY.hex().encode() + b"\n")
    os.close(writing)
    files = ["--authorisation", str(folder / "word"), "--ca", str(folder / "ca.pem"), "--spent", str(folder / "spent")]
    command = [sys.executable, "-m", "sdbox.smartcard.cli", "enrol", "--reader", READER, "--key-fd", str(reading)]
    try:
        return subprocess.run(
            [*command, *files], capture_output=True, text=True, timeout=60, check=False, pass_fds=(reading,)
        )
    finally:
        os.close(reading)


def test_a_blank_card_gets_its_finger_and_opens(tmp_path: Path) -> None:
    with running_pcscd() as pcscd, emulated_card(pcscd, NAME, options=["--finger", ""]) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        card.tell("auto good")
        (tmp_path / "ca.pem").write_bytes(CENTRE.certificate.public_bytes(Encoding.PEM))
        (tmp_path / "word").write_bytes(Operator().word(new_statement(serial_of_card(), "1042", 1)))
        done = enrol(tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("finger of 1042\n")
        again = enrol(tmp_path)
        assert again.returncode == 1
        assert "enrolment-refused" in again.stderr

        async def scene() -> list[str | None]:
            async with await CardWorker.start(variant_named(NAME), READER) as worker:
                return [container.project for container in (await worker.login(None)).containers]

        assert asyncio.run(scene()) == ["atlas", "boreal"]
        assert card.events.count("write") == 1


@pytest.mark.parametrize("name", ["sc-hsm-bio", "goid"])
def test_a_blank_card_with_a_sensor_gets_its_finger(tmp_path: Path, name: str) -> None:
    """The command says what to do on the card itself; no key of the card and no sensor of the box is needed."""
    serial = f"SDB{card_serial(name, (Project('atlas'), Project('boreal')))}"
    (tmp_path / "ca.pem").write_bytes(CENTRE.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "word").write_bytes(Operator().word(new_statement(serial, "1042", 1)))
    with running_pcscd() as pcscd, emulated_card(pcscd, name, options=["--finger", ""]) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        files = ["--authorisation", "word", "--ca", "ca.pem", "--spent", "spent"]
        command = [sys.executable, "-m", "sdbox.smartcard.cli", "enrol", "--reader", READER, *files]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as desk:
            for finger in ("pin", *["good"] * (TOUCHES + 1)):  # the PIN on the pad, the finger, and the comparison
                card.expect("sensor wait")
                card.tell(f"touch {finger}")
            told = desk.communicate(timeout=20)[1]
        assert desk.returncode == 0, told
        assert told.startswith("type the PIN on the card's own pad\nput the finger on the sensor\n")
        card.tell("auto good")
        assert "finger enrolled" in card.events
        if name == "sc-hsm-bio":  # Debian 12's OpenSC can't open the other
            asyncio.run(opens(name))


async def opens(name: str) -> None:
    async with await CardWorker.start(variant_named(name), READER) as worker:
        assert (await worker.login(None)).containers
