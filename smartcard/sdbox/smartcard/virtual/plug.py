"""A reader that can be unplugged, with the card in it or not, and plugged in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sdbox.smartcard.virtual.apdu import VirtualCard


class Wire(Protocol):
    """A reader's slot."""

    def insert(self, card: VirtualCard) -> None: ...
    def remove(self) -> None: ...
    def close(self) -> None: ...


class Reader:
    """Plugged in from the constructor to `close`, but for what `unplug` and `plug` say. Raises what `wire` raises."""

    def __init__(self, wire: Callable[[], Wire]) -> None:
        """`wire` plugs it in; whoever closes what it returns unplugs it."""
        self._open = wire
        self._wire: Wire | None = wire()
        self._card: VirtualCard | None = None

    def insert(self, card: VirtualCard) -> None:
        """Put a card in; RuntimeError if there is one."""
        if self._card is not None:
            raise RuntimeError("there is a card in the reader")
        if self._wire is not None:
            self._wire.insert(card)
        self._card = card

    def remove(self) -> None:
        """Pull the card; whatever it was doing is over."""
        self._card = None
        if self._wire is not None:
            self._wire.remove()

    def unplug(self) -> bool:
        """Pull the reader's cable: a card in it loses its power and stays where it is. False if it was out."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
        return wire is not None

    def plug(self) -> bool:
        """Plug it in again, with the card that is in it. False if it was in."""
        if self._wire is not None:
            return False
        self._wire = self._open()
        if self._card is not None:
            self._wire.insert(self._card)
        return True

    def close(self) -> None:
        """Unplug it for good."""
        self.unplug()
