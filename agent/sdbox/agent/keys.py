"""A session's tunnel key: X25519 (RFC 7748), fresh each time, gone with the session."""

from __future__ import annotations

import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY_SIZE: Final = 32


class TunnelKey:
    """A private key in a buffer that is overwritten by `wipe`. Not printable, not copyable by pickle.

    Libraries still make short-lived copies that Python cannot overwrite; core files and swap do not exist on the box,
    and the kernel's copy is erased with its interface.
    """

    __slots__ = ("_private", "public")

    def __init__(self) -> None:
        self._private = bytearray(os.urandom(KEY_SIZE))  # any 32 bytes are a key: RFC 7748, section 5 clamps at use
        self.public: bytes = X25519PrivateKey.from_private_bytes(self._private).public_key().public_bytes_raw()

    def private(self) -> bytearray:
        """Return the buffer itself; ValueError once it was wiped."""
        if not any(self._private):
            raise ValueError("the tunnel key was wiped")
        return self._private

    def wipe(self) -> None:
        """Overwrite the private key. Idempotent."""
        self._private[:] = bytes(KEY_SIZE)

    def __reduce__(self) -> str:
        raise TypeError("a tunnel key is not copied")
