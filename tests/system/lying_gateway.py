"""Gateways that lie about which bubbles the card has a container for. Real in all else; started by a test."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdbox.gateway.cards import CardPolicy, Container
from sdbox.gateway.config import BubbleConfig, load_config
from sdbox.gateway.server import Server, services_for
from sdbox.gateway.store import Store
from sdbox.protocol import messages as m
from sdbox.protocol.reasons import Reason


class GenerousPolicy(CardPolicy):
    """Offers each container the bubble of another project."""

    def __init__(self, card_ca: Path, bubbles: Mapping[str, BubbleConfig]) -> None:
        super().__init__(card_ca, bubbles, lambda _serial: False)
        self._all = bubbles

    def offers(self, containers: Sequence[Container]) -> tuple[m.OfferItem, ...]:
        """Return as many offers as the card has containers, each for a bubble that none of them is for."""
        honest = super().offers(containers)
        named = {offer.project for offer in honest}
        others = (bubble for project, bubble in self._all.items() if project not in named)
        return tuple(
            m.OfferItem(bubble.project, bubble.title_fr, bubble.title_en, None, offer.certificate)
            for offer, bubble in zip(honest, others, strict=True)
        )


class ForgetfulPolicy(CardPolicy):
    """Offers what the card has a container for, and once it is picked denies that it has."""

    def __init__(self, card_ca: Path, bubbles: Mapping[str, BubbleConfig]) -> None:
        super().__init__(card_ca, bubbles, lambda _serial: False)
        self._offered = False

    def offers(self, containers: Sequence[Container]) -> tuple[m.OfferItem, ...]:
        """Return the honest offers."""
        self._offered = False
        honest = super().offers(containers)
        self._offered = True
        return honest

    def fault(self, container: Container) -> Reason | None:
        """Return the lie to whoever asks after the offers."""
        return Reason.PROJECT_NOT_ON_CARD if self._offered else super().fault(container)


POLICIES = {"generous": GenerousPolicy, "forgetful": ForgetfulPolicy}


async def serve(path: Path, kind: str) -> None:
    """Serve with the configuration at `path` until SIGTERM."""
    config = load_config(path)
    store, stop = Store(config.database), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    policy = POLICIES[kind](config.card_ca, {bubble.project: bubble for bubble in config.bubble})
    services = dataclasses.replace(await services_for(config, store), cards=policy)
    await Server(config, services).serve(stop)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[-1]), sys.argv[1]))
