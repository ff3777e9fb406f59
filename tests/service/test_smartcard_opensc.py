"""OpenSC in the worker: random use never costs more tries than it should, and the worker is another user."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.values import LoginRefused
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from tests.service.smartcard_bench import (
    PIN,
    READER,
    EmulatedCard,
    Pcscd,
    emulated_card,
    make_softhsm_token,
    running_pcscd,
    sees_card,
    wait_for,
)

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


@given(st.lists(st.sampled_from(["good", "wrong", "nobody", "look", "again"]), min_size=1, max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_one_user_action_is_one_verify(pcscd: Pcscd, actions: list[str]) -> None:
    """Whatever is done, the card is asked at most once for each action, and only a wrong finger costs a try (S7)."""
    with emulated_card(pcscd, "sc-hsm-bio", ("atlas",), ["--touch-seconds", "0.05"]) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        asyncio.run(_act(card, actions))


async def _act(card: EmulatedCard, actions: list[str]) -> None:
    worker, tries, logged_in = await _start(), 3, False
    for action in actions:
        before = card.verifies
        if action == "again" or logged_in:
            await worker.close()
            worker, logged_in = await _start(), False
        assert (await worker.status()).tries == tries
        asked = action in ("good", "wrong") and tries > 0
        if action in ("good", "wrong", "nobody"):
            logged_in = await _login(card, worker, action)
            tries = 3 if logged_in else tries - int(asked)
        assert card.verifies - before == int(asked)
    await worker.close()


async def _start() -> CardWorker:
    return await CardWorker.start(variant_named("sc-hsm-bio"), READER)


async def _login(card: EmulatedCard, worker: CardWorker, action: str) -> bool:
    card.tell("auto off" if action == "nobody" else f"auto {action}")
    try:
        await worker.login(None)
    except LoginRefused as refused:
        allowed = {"wrong": Reason.CARD_FINGER, "nobody": Reason.CARD_TIMEOUT}
        assert refused.reason in (allowed.get(action), Reason.CARD_BLOCKED)  # noqa: PT017 - one outcome of two
        return False
    assert action == "good"
    return True


def test_the_worker_runs_as_another_user(tmp_path: Path) -> None:
    make_softhsm_token(tmp_path, fill_containers([Project("atlas")], Issuer.create()))
    user = _a_user_who_can_run_us()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    for path in tmp_path.parents[:3]:
        path.chmod(path.stat().st_mode | 0o011)

    async def scene() -> None:
        async with await CardWorker.start(variant_named("softhsm"), "", user=user.pw_name) as worker:
            await worker.status()
            status = (Path("/proc") / str(worker.pid) / "status").read_text()
            assert f"Uid:\t{user.pw_uid}\t{user.pw_uid}\t{user.pw_uid}" in status
            assert "NoNewPrivs:\t1" in status
            assert (await worker.login(bytearray(PIN.encode()))).containers[0].project == "atlas"

    asyncio.run(scene())


def _a_user_who_can_run_us() -> pwd.struct_passwd:
    """Return `nobody`, or root where the interpreter or the checkout lies in a folder that only root can enter."""
    command = (sys.executable, "-c", "import sdbox.smartcard.worker")
    try:
        able = subprocess.run(command, user="nobody", group="nogroup", cwd="/", check=False).returncode == 0
    except OSError:
        able = False
    return pwd.getpwnam("nobody" if able else "root")


def test_an_unknown_user_or_reader_is_refused(pcscd: Pcscd) -> None:
    async def scene() -> None:
        with pytest.raises(Refusal):
            await CardWorker.start(variant_named("piv"), READER, user="no-such-user")
        async with await CardWorker.start(variant_named("piv"), "No such reader") as worker:
            with pytest.raises(Refusal) as refused:
                await worker.status()
            assert refused.value.reason is Reason.CARD_FAILED

    asyncio.run(scene())
