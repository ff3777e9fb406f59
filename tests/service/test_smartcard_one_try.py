"""One user action is one VERIFY, with every kind of finger: whatever happens, in whatever order (S7)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd
from sdbox.protocol.reasons import Reason
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.values import LoginMethod, LoginRefused
from sdbox.smartcard.variants import load_variants, variant_named
from tests.service.smartcard_cases import ONLY_ON_THE_BOX

pytestmark = pytest.mark.root
FINGERS = [variant.name for variant in load_variants() if variant.login.method is LoginMethod.FINGER]
MOST = 3
ACTIONS = ["good", "wrong", "nobody", "look", "again", "good confirmed", "wrong confirmed", "nobody confirmed"]


@pytest.fixture(scope="module", params=FINGERS)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Pcscd, str]]:
    with running_pcscd(stack_named("box" if request.param in ONLY_ON_THE_BOX else "host")) as service:
        yield service, request.param


@given(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=6))
@example(["wrong", "wrong", "good", "wrong", "look", "wrong confirmed", "good confirmed", "again"])
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_one_user_action_is_one_verify(place: tuple[Pcscd, str], actions: list[str]) -> None:
    """The card is asked at most once for each action, only a wrong finger costs a try, the last only if confirmed."""
    pcscd, name = place
    with emulated_card(pcscd, name, ("atlas",), ["--touch-seconds", "0.05"]) as card:
        card.insert()
        pcscd.stack.wait_for_card(READER)
        asyncio.run(_Scene(card, name, pcscd.stack.python).act(actions))


@dataclass(slots=True)
class _Scene:
    """A card, its worker, and what the counter must be."""

    card: EmulatedCard
    name: str
    python: tuple[str, ...]
    tries: int = MOST
    logged_in: bool = False

    async def act(self, actions: list[str]) -> None:
        worker = await self._start()
        for action in actions:
            before = self.card.verifies
            if action == "again" or self.logged_in:
                await worker.close()
                worker, self.logged_in = await self._start(), False
            assert (await worker.status()).tries == self.tries
            finger, _, confirmed = action.partition(" ")
            # A card with a sensor is asked before anybody touches it; another when the box's sensor has a finger.
            askers = {"good", "wrong"} if variant_named(self.name).wants_box_sensor else {"good", "wrong", "nobody"}
            asked = finger in askers and self.tries > (0 if confirmed else 1)
            if finger in ("good", "wrong", "nobody"):
                await self._login(worker, finger, last_try=bool(confirmed))
            assert self.card.verifies - before == int(asked)
        await worker.close()

    async def _start(self) -> CardWorker:
        return await CardWorker.start(variant_named(self.name), READER, python=self.python)

    async def _login(self, worker: CardWorker, finger: str, *, last_try: bool) -> None:
        self.card.tell("auto off" if finger == "nobody" else f"auto {finger}")
        expected = self._refusal(finger, last_try=last_try)
        if expected is None:
            assert len((await worker.login(None, last_try=last_try)).containers) == 1
            self.tries, self.logged_in = MOST, True
            return
        with pytest.raises(LoginRefused) as refused:
            await worker.login(None, last_try=last_try)
        if expected is Reason.CARD_FINGER:
            self.tries -= 1
            expected = expected if self.tries else Reason.CARD_BLOCKED
        assert (refused.value.reason, refused.value.tries) == (expected, self.tries)

    def _refusal(self, finger: str, *, last_try: bool) -> Reason | None:
        if not self.tries:
            return Reason.CARD_BLOCKED
        if self.tries == 1 and not last_try:
            return Reason.CARD_LAST_TRY
        return {"good": None, "wrong": Reason.CARD_FINGER, "nobody": Reason.CARD_TIMEOUT}[finger]
