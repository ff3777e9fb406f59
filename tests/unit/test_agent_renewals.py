"""A renewal that breaks is noted and disturbs nobody: neither the session nor the agent."""

from __future__ import annotations

import asyncio
import gc
from typing import cast

import pytest

from sdbox.agent.card import CardSeat
from sdbox.agent.channel.channel import Channel
from sdbox.agent.renewal import Renewals
from sdbox.protocol.values import CardIdentity, Container
from sdbox.smartcard.values import CardInserted


def test_what_nobody_expected_of_a_renewal_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate that cannot be read, on a card whose reading let it pass."""

    async def scene() -> list[object]:
        unseen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        seat = CardSeat(CardInserted("reader", b""))
        seat.identity = CardIdentity("1", "piv", (Container(b"\1", "atlas", b"no certificate", "atlas"),))
        renewals = Renewals()
        renewals.consider(cast("Channel", None), seat)  # it does not come to asking the centre
        await renewals.settled()
        del renewals
        gc.collect()
        await asyncio.sleep(0)
        return unseen

    assert asyncio.run(scene()) == []
    assert "sdbox-note broken: ValueError in " in capsys.readouterr().out
