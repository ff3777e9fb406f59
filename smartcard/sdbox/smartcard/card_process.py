"""Starting a process that talks to the card, as the card's user; and short acts at the reader in one of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sdbox.protocol.reasons import Reason, Refusal

OPENSC_CONF: Final = Path(__file__).resolve().parent / "data" / "opensc.conf"
INHERITED: Final = ("SOFTHSM2_CONF", "PCSCLITE_CSOCK_NAME", "PYTHONPATH", "VIRTUAL_ENV", "SDBOX_SENSOR")


@dataclass(frozen=True, slots=True)
class Runner:
    """Who such processes run as (None: as we), and the command of the interpreter, be it another root's."""

    user: str | None = None
    python: tuple[str, ...] = (sys.executable,)

    async def start(self, module: str, *arguments: str, link: int | None = None, output: int = DEVNULL) -> Process:
        """Start `module`, with the descriptor `link`; Refusal(CARD_FAILED) if it does not start.

        What goes wrong before, an unknown user, is Refusal(INTERNAL).
        """
        uid, gid = _ids_of(self.user)
        try:
            return await asyncio.create_subprocess_exec(
                *(*self.python, "-m", module, *arguments),
                stdin=DEVNULL,
                stdout=output,
                pass_fds=() if link is None else (link,),
                env=_environment(),
                cwd="/",
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=None if self.user is None else os.getgrouplist(self.user, gid or 0),
            )
        except OSError as error:
            raise Refusal(Reason.CARD_FAILED, f"{module} does not start: {error.strerror}") from error

    async def errand(self, *arguments: str, deadline: float) -> str:
        """Do one act of `errand.py`, killed after `deadline` seconds; return what it printed. Refusal(CARD_FAILED)."""
        process = await self.start("sdbox.smartcard.errand", *arguments, output=PIPE)
        try:
            async with asyncio.timeout(deadline):
                output, _ = await process.communicate()
        except TimeoutError as error:
            raise Refusal(Reason.CARD_FAILED, f"{arguments[0]}: no answer in {deadline:g} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode:
            raise Refusal(Reason.CARD_FAILED, f"{arguments[0]}: not done")
        return output.decode()


def _ids_of(user: str | None) -> tuple[int | None, int | None]:
    if user is None:
        return None, None
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise Refusal(Reason.INTERNAL, f"no user {user!r} for the card worker") from error
    return entry.pw_uid, entry.pw_gid


def _environment() -> Mapping[str, str]:
    """Return all that a card's process gets of our environment: no more than its libraries need."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENSC_CONF": str(OPENSC_CONF), **kept}
