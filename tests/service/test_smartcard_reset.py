"""No other process gets a signature during a card session or after it, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.bench.softtoken import PIN
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.pcsc import ask_card
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.piv_references import enrolled_template

pytestmark = pytest.mark.root
P256, PSS = 0x0403, 0x0804


@pytest.fixture
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


async def start(name: str) -> CardWorker:
    await asyncio.to_thread(wait_for, sees_card, "PC/SC to see the card")
    return await CardWorker.start(variant_named(name), READER)


def credential(name: str) -> bytearray | None:
    return None if variant_named(name).login.method is LoginMethod.FINGER else bytearray(PIN.encode())


# What a thief would run: ask an open card for a signature, again and again, without verifying anybody.
THIEF = """
import sys, time
from sdbox.smartcard.pcsc import PcscError, ask_card
end, command = time.monotonic() + float(sys.argv[2]), bytes.fromhex(sys.argv[3])
print("trying", flush=True)
while time.monotonic() < end:
    try:
        if ask_card(sys.argv[1], command)[-2:] == b"\\x90\\x00":
            print("signed", flush=True)
    except PcscError:
        pass
"""
PIV_SIGN = "0087119A26 7C2482008120" + 32 * "00" + "00"
SIGN = {
    "sc-hsm-bio": "8068017000 0020" + 32 * "00" + "0000",
    "piv": PIV_SIGN,
    "piv-occ": PIV_SIGN,
    "openpgp": "0088000020" + 32 * "00" + "00",
    "myeid": "002A9E9A20" + 32 * "00" + "00",  # with the key that the holder chose last
}
FINGER = enrolled_template("good")


OPEN = {
    "sc-hsm-bio": ("00A404000BE82B0601040181C31F0201", "0020008100"),
    "piv": ("00A404000BA00000030800001000010000", "0020008008313233343536FFFF"),
    "piv-occ": ("00A404000BA00000030800001000010000", f"00200096{len(FINGER):02X}{FINGER.hex()}"),
    "openpgp": ("00A4040006D2760001240100", "0020008206313233343536"),
    "myeid": ("00A404000CA000000063504B43532D313500", "0020000108313233343536FFFF", "002241B607800104 81024B01"),
}


class Thief:
    """Another process that tries to sign for `seconds`."""

    def __init__(self, command: str, seconds: float, python: Sequence[str] = (sys.executable,)) -> None:
        argv = [*python, "-c", THIEF, READER, str(seconds), command]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def signatures(self) -> int:
        """Wait for its end; how many signatures it got."""
        output, _ = self._process.communicate(timeout=30)
        assert output.startswith("trying")
        return output.count("signed")


@pytest.mark.parametrize("name", SIGN)
def test_a_card_left_open_signs_for_anybody(pcscd: Pcscd, name: str) -> None:
    """The danger is real: without a reset the thief of the next tests succeeds."""
    with emulated_card(pcscd, name) as card:
        card.insert()
        card.tell("auto good")
        wait_for(sees_card, "PC/SC to see the card")
        for command in OPEN[name]:
            assert ask_card(READER, bytes.fromhex(command))[-2:] == b"\x90\x00"
        assert Thief(SIGN[name], 1).signatures() > 0


@pytest.mark.parametrize("name", SIGN)
def test_no_other_process_signs_during_or_after_a_session(pcscd: Pcscd, name: str) -> None:
    with emulated_card(pcscd, name) as card:
        card.insert()
        card.tell("auto good")

        async def scene() -> None:
            worker = await start(name)
            identity = await worker.login(credential(name))
            thief = Thief(SIGN[name], 3)
            await asyncio.sleep(1)
            await worker.sign(identity.containers[0].key_id, b"content", [P256])
            await worker.close()
            assert await asyncio.to_thread(thief.signatures) == 0

        asyncio.run(scene())
        assert card.events.count("sign") == 1


@pytest.mark.parametrize("name", SIGN)
def test_a_worker_that_died_leaves_no_open_card(pcscd: Pcscd, name: str) -> None:
    with emulated_card(pcscd, name) as card:
        card.insert()
        card.tell("auto good")

        async def scene() -> None:
            worker = await start(name)
            await worker.login(credential(name))
            thief = Thief(SIGN[name], 2)
            await asyncio.sleep(0.5)
            os.kill(worker.pid, signal.SIGKILL)
            await worker.close()
            assert await asyncio.to_thread(thief.signatures) == 0

        asyncio.run(scene())
        assert "sign" not in card.events
