"""A tunnel whose link was not deleted is not forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from sdbox.agent.keys import TunnelKey
from sdbox.agent.namespace import Namespace
from sdbox.agent.tunnel import Tunnel, Way
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import TunnelGrant


class BusyKernel:
    """The namespace's thread, where the kernel says no the first time that a link is to be deleted."""

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, _work: Callable[[], object]) -> None:
        self.asked += 1
        if self.asked == 1:
            raise Refusal(Reason.INTERNAL, "the tunnel's link is not deleted: 16")


def test_a_link_that_was_not_deleted_is_deleted_by_the_next_try() -> None:
    async def scene() -> int:
        kernel = BusyKernel()
        tunnel = Tunnel(cast("Namespace", kernel))
        way = Way(TunnelGrant((), bytes(32), bytes(32), "10.64.1.2/32", ()), TunnelKey(), "10.64.1.1", 3389)
        tunnel._way, tunnel._complete = way, True
        with pytest.raises(Refusal):
            await tunnel.down()
        with pytest.raises(Refusal) as twice:
            await tunnel.up(way)
        assert twice.value.detail == "two tunnels at once"
        await tunnel.down()
        await tunnel.down()
        return kernel.asked

    assert asyncio.run(scene()) == 2
