"""Where the emulated cards of this process live: one folder, removed when the process ends."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sdbox.bench.card_stack import Stack, box_stack, host_stack
from sdbox.host.workfolder import work_prefix
from sdbox.smartcard.virtual.cvc import Holder, certify, generate_key


@dataclass(frozen=True, slots=True)
class Places:
    """The folder and what is in it."""

    kept: tempfile.TemporaryDirectory[str]

    @property
    def folder(self) -> Path:
        return Path(self.kept.name)

    @property
    def socket(self) -> Path:
        """Pcscd's. libpcsclite remembers the path for as long as a process lives: each new pcscd takes the same."""
        return self.folder / "pcscd.comm"

    @property
    def sensor(self) -> Path:
        """The box's fingerprint sensor, while a card that needs it is there."""
        return self.folder / "sensor"

    @property
    def card_roots(self) -> Path:
        """What the box has in /etc/eac/cvc."""
        return self.folder / "cvc"


@cache
def places() -> Places:
    """Return this process's places, made at the first call."""
    made = Places(tempfile.TemporaryDirectory(prefix=work_prefix("pcsc")))
    made.card_roots.mkdir()
    return made


@cache
def card_root_key() -> Path:
    """Return the key that certifies the cards' devices; on first use, made with its certificate for the box."""
    path, key = places().folder / "card-root.key", generate_key()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    root = Holder.root(key)
    (places().card_roots / root.reference).write_bytes(certify(root, root))
    return path


def stack_named(name: str) -> Stack:
    """Return "host" or "box"."""
    return host_stack() if name == "host" else box_stack(places().folder, places().card_roots)
