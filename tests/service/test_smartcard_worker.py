"""The worker is another user, and refuses a user or a reader that does not exist."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.bench.card_reader import READER, Pcscd, running_pcscd
from sdbox.bench.softtoken import PIN
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from tests.service.smartcard_bench import make_softhsm_token

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


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
