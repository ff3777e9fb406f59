"""A worker that waits for its card: one process for one card all the same, hardened before it has any."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sdbox.bench.softtoken import PIN
from sdbox.protocol.values import CardIdentity
from sdbox.qemu.deadline import wait_for
from sdbox.smartcard.card_process import Runner
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.spare import Spare
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from tests.service.smartcard_bench import make_softhsm_token

LOADED_SECONDS = 20.0
HARDENED = "NoNewPrivs:\t1"
VARIANT = variant_named("softhsm")


@pytest.fixture(autouse=True)
def _token(tmp_path: Path) -> None:
    make_softhsm_token(tmp_path, fill_containers([Project("atlas")], Issuer.create()))


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


async def waiting_worker(spare: Spare) -> int:
    """Prepare `spare` and return its process once that has hardened itself: all it does after is wait."""
    before = children()
    spare.prepare()
    await asyncio.sleep(0)
    spare.prepare()  # there is one already

    def hardened() -> int | None:
        found = children() - before
        return next((pid for pid in found if HARDENED in read(pid, "status")), None)

    pid = await asyncio.to_thread(wait_for, hardened, "a worker that waits", LOADED_SECONDS)
    assert children() - before == {pid}
    return pid


def read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def use(spare: Spare) -> tuple[int, CardIdentity]:
    async with await CardWorker.start(VARIANT, "", spare=spare) as worker:
        return worker.pid, await worker.login(bytearray(PIN.encode()))


def test_the_one_that_waits_gets_the_card_and_no_second_one() -> None:
    async def scene() -> None:
        spare = Spare(Runner())
        waiting = await waiting_worker(spare)
        pid, card = await use(spare)
        assert pid == waiting
        assert card.containers[0].project == "atlas"
        again, _ = await use(spare)
        assert again != waiting, "a process was used for a second card"
        assert children() == set()

    asyncio.run(scene())


def test_it_is_hardened_before_it_has_a_card_and_has_opened_none() -> None:
    async def scene() -> None:
        spare = Spare(Runner())
        waiting = await waiting_worker(spare)
        assert [line.split()[4] for line in read(waiting, "limits").splitlines() if "Max core" in line] == ["0"]
        assert "libsofthsm2" not in read(waiting, "maps")
        await spare.close()
        assert not lives(waiting)

    asyncio.run(scene())


def test_one_that_died_while_it_waited_is_replaced() -> None:
    async def scene() -> None:
        spare = Spare(Runner())
        waiting = await waiting_worker(spare)
        os.kill(waiting, signal.SIGKILL)
        await asyncio.to_thread(wait_for, lambda: not lives(waiting), "its end to be noticed", LOADED_SECONDS)
        pid, card = await use(spare)
        assert pid != waiting
        assert card.containers[0].project == "atlas"
        await spare.close()
        assert children() == set()

    asyncio.run(scene())


def test_without_its_agent_it_ends_by_itself() -> None:
    async def scene() -> None:
        spare = Spare(Runner())
        waiting = await spare.take()
        waiting.link.close()
        async with asyncio.timeout(LOADED_SECONDS):
            assert await waiting.process.wait() == 0

    asyncio.run(scene())
