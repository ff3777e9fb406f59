"""A token without a reader (SoftHSM): a pipe says that it comes and goes. Debug profile only: no production site.toml
names a token, and no production image has the pipe (image/rootfs-debug).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sdbox.agent.card import TOKEN_READER
from sdbox.smartcard.values import CardEvent, CardInserted, CardRemoved

PIPE: Final = Path("/run/sdbox-token/events")
WORDS: Final[dict[bytes, CardEvent]] = {b"in": CardInserted(TOKEN_READER, b""), b"out": CardRemoved(TOKEN_READER)}
PIPE_BYTES: Final = 4096


class TokenMonitor:
    """Posts `CardInserted` and `CardRemoved` in the event loop for each line `in` and `out`. OSError without a pipe."""

    def __init__(self, post: Callable[[CardEvent], None], path: Path = PIPE) -> None:
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        # For writing too: a pipe without a writer is at its end, and would be readable all the time.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add_reader(self._pipe, self._readable)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)

    def _readable(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._pipe, PIPE_BYTES)).split(b"\n")
        for line in lines:
            if line in WORDS:
                self._post(WORDS[line])
