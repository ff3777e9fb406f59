"""Nobody else's signature, of every variant: another process beside a session and after it, another card within it.

The other process asks what the card was asked when its holder signed. That the card would answer, were it not for the
worker, is tried first: with the card left open by the very commands of the worker's login.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence

import pytest

from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER
from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.client import CardWorker
from tests.contract.card_stage import CardStage, card_stage
from tests.service.smartcard_cases import cases

pytestmark = pytest.mark.root
for_each_card = pytest.mark.parametrize(("name", "place"), cases())
# ykcs11 holds no PC/SC transaction between calls: who may reach pcscd can sign meanwhile.
OPEN_MEANWHILE = {"yubikey-bio"}
# Its card signs through the channel of the session only; a thief has to ask in the clear.
CLOSED_ANYWAY = {"goid"}
IN_THE_CLEAR = {"goid": ("80680170000020" + 32 * "00" + "0000",)}
THIEF = """
import json, sys, time
from sdbox.smartcard.pcsc import PcscError, ask_card, reset_card
reader, seconds, opening, signing = json.load(sys.stdin)
for command in opening:
    ask_card(reader, bytes.fromhex(command))
end, signed = time.monotonic() + seconds, 0
print("trying", flush=True)
while time.monotonic() < end:
    try:
        signed += [ask_card(reader, bytes.fromhex(command)) for command in signing][-1][-2] in (0x90, 0x61)
    except PcscError:
        pass
if opening:
    reset_card(reader)
print(signed)
"""


class Thief:
    """Another process that tries to sign for `seconds`. With `opening` it opens the card first, and resets it then."""

    def __init__(self, stage: CardStage, signing: Sequence[str], seconds: float, opening: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*stage.stack.python, "-c", THIEF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([READER, seconds, opening, signing]))
        self._process.stdin.close()
        self._process.stdin = None
        assert self._process.stdout.readline() == "trying\n"

    def signatures(self) -> int:
        """Wait for its end; how many signatures it got."""
        output, _ = self._process.communicate(timeout=30)
        return int(output)


def commands(stage: CardStage) -> tuple[str, ...]:
    """Return what the card was asked since the last call."""
    return tuple(taped.command.hex() for taped in stage.card.tape() if taped.command)


async def open_session(stage: CardStage) -> tuple[CardWorker, bytes]:
    worker = await stage.start()
    identity = await worker.login(stage.credential(right=True))
    return worker, identity.containers[0].key_id


@for_each_card
def test_no_other_process_signs_during_or_after_a_session(name: str, place: str) -> None:
    async def scene(stage: CardStage) -> None:
        worker, key = await open_session(stage)
        opening = commands(stage)
        await worker.sign(key, b"content", SCHEMES)
        signing = IN_THE_CLEAR.get(name) or commands(stage)
        await worker.close()
        danger = Thief(stage, signing, 0.3, opening)
        assert bool(await asyncio.to_thread(danger.signatures)) is (name not in CLOSED_ANYWAY)
        worker, key = await open_session(stage)
        thief = Thief(stage, signing, 1)  # it may have to wait for the card until the session is over
        await asyncio.sleep(0.3)  # its time to try, while the session stands
        await worker.sign(key, b"content", SCHEMES)
        await worker.close()
        assert bool(await asyncio.to_thread(thief.signatures)) is (name in OPEN_MEANWHILE)
        assert await asyncio.to_thread(Thief(stage, signing, 0.3).signatures) == 0

    with card_stage(name, stack_named(place)) as stage:
        asyncio.run(scene(stage))


@for_each_card
def test_a_card_swapped_in_a_session_is_not_taken_for_the_old_one(name: str, place: str) -> None:
    with card_stage(name, stack_named(place)) as stage, emulated_card(stage.pcscd, name, stage.projects) as new:
        new.tell("auto good")

        async def scene() -> None:
            worker, key = await open_session(stage)
            stage.card.remove()
            await asyncio.to_thread(new.insert)
            await asyncio.to_thread(stage.stack.wait_for_card, READER)
            with pytest.raises(Refusal) as refused:
                await worker.sign(key, b"content", SCHEMES)
            assert refused.value.reason is Reason.CARD_FAILED
            with pytest.raises(Refusal):
                await worker.status()
            await worker.close()

        asyncio.run(scene())
        assert new.verifies == 0
        assert "sign" not in [*stage.card.events, *new.events]
