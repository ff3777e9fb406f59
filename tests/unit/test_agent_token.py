"""The pipe of a token without a reader: what is written to it arrives as card events, whole lines only."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sdbox.agent.card import TOKEN_READER
from sdbox.agent.token import TokenMonitor
from sdbox.smartcard.values import CardEvent, CardInserted, CardRemoved


def test_lines_become_events_and_anything_else_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events"
    os.mkfifo(path)

    async def scene() -> list[CardEvent]:
        seen: asyncio.Queue[CardEvent] = asyncio.Queue()
        monitor = TokenMonitor(seen.put_nowait, path)
        try:
            for part in (b"i", b"n\nover", b"board\nin", b"\nout\n"):
                with path.open("wb") as writer:
                    writer.write(part)
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                return [await seen.get() for _ in range(3)]
        finally:
            monitor.close()

    inserted = CardInserted(TOKEN_READER, b"")
    assert asyncio.run(scene()) == [inserted, inserted, CardRemoved(TOKEN_READER)]


def test_an_image_without_the_pipe_has_no_token(tmp_path: Path) -> None:
    async def scene() -> None:
        TokenMonitor(lambda _event: None, tmp_path / "events")

    with pytest.raises(FileNotFoundError):
        asyncio.run(scene())
