"""A gateway that writes each session's secrets to a file, so that a test can look for them. Real in all else."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from pathlib import Path

from sdbox.gateway.config import BubbleConfig, load_config
from sdbox.gateway.server import Server, services_for
from sdbox.gateway.sessions import Bubble, Session
from sdbox.gateway.store import Store
from sdbox.gateway.wireguard import UserspaceTunnel


class TellingBubble(Bubble):
    """Adds a line of JSON to `told` for each session: secret's name to hex digits."""

    told: Path

    @classmethod
    async def open(cls, config: BubbleConfig, told: Path) -> TellingBubble:
        tunnel = UserspaceTunnel(config.wireguard.socket)
        bubble = cls(config, tunnel, await tunnel.reset(config.wireguard.listen_port))
        bubble.told = told
        return bubble

    async def enter(self, public: bytes, serial: str) -> Session:
        session = await super().enter(public, serial)
        told = {"desktop secret": session.login.secret.encode().hex(), "pre-shared key": session.peer.preshared.hex()}
        with self.told.open("a", encoding="ascii") as file:
            file.write(json.dumps(told) + "\n")
        return session


async def serve(path: Path, told: Path) -> None:
    """Serve with the configuration at `path` until SIGTERM."""
    config = load_config(path)
    store, stop = Store(config.database), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    services = await services_for(config, store)
    bubbles = {bubble.project: await TellingBubble.open(bubble, told) for bubble in config.bubble}
    await Server(config, dataclasses.replace(services, bubbles=bubbles)).serve(stop)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[-1]), Path(sys.argv[1])))
