"""What happened, for the operator: one JSON line on standard error and one in the hash-chained record."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Final

from sdbox.gateway.store import Store

_LONGEST: Final = 2000  # all checks that can fail, in one field
_UNSAFE: Final = re.compile(r"[^\x20-\x7e]")


def sanitised(text: str) -> str:
    """Return `text` fit for a log: printable ASCII, bounded; what a box sends must not forge lines (checklist 33)."""
    return _UNSAFE.sub("?", text)[:_LONGEST]


class Record:
    """Takes events by name with plain text fields. Never a PIN, key, nonce or secret (S8)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(self, event: str, **fields: str) -> None:
        """Write one event down; returns when it is in the record."""
        entry = {"event": event, **{name: sanitised(value) for name, value in fields.items() if value}}
        print(json.dumps(entry, sort_keys=True), file=sys.stderr, flush=True)
        await asyncio.to_thread(self._store.append, entry)
