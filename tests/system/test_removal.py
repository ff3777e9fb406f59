"""The end of a session (S6): the card is pulled, or the power goes, and nothing of it is left at the centre."""

from __future__ import annotations

import pytest

from sdbox.bench.lab import Lab
from sdbox.bench.stand import Card
from sdbox.qemu.deadline import wait_for

from .conftest import Desk
from .test_card_states import enter

pytestmark = [pytest.mark.system, pytest.mark.root]
PEER_SECONDS = 10.0  # not the figure that is promised (bench.md): only that it comes
LEASE_OVER_SECONDS = 90.0  # the gateway's lease is 15


def test_a_removal_takes_picture_keys_and_peer(desk: Desk, lab: Lab) -> None:
    with desk(Card("piv", ("atlas", "boreal"))) as hands:
        hands.wait_back()
        enter(hands, "atlas")
        hands.switch("boreal")
        assert lab.peers() == 1, "two bubbles are never up at once (S5)"
        since = hands.machine.console.mark()
        hands.remove()  # waits until the screen asks for a card
        noted = r"sdbox-note wipe cause=card-removed picture-gone-ms=\S+ keys-wiped-ms=\S+"
        hands.machine.wait_console(noted, 10, since=since)
        wait_for(lambda: lab.peers() == 0, "the peer to go with the card", PEER_SECONDS)


def test_a_power_cut_takes_the_peer(desk: Desk, lab: Lab) -> None:
    """Nobody says goodbye: the gateway hears no heartbeat any more."""
    with desk(Card("piv", ("atlas",))) as hands:
        hands.wait_back()
        enter(hands, "atlas")
        assert lab.peers() == 1
        hands.machine.power_cut()
        wait_for(lambda: lab.peers() == 0, "the peer of a box without power to go", LEASE_OVER_SECONDS, interval=0.5)
