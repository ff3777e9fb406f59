"""WireGuard's control sockets: keys, peers, configuration (wireguard.com, Cross-platform Interface)."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

ANSWER_SECONDS = 5.0


class WireGuardFailed(RuntimeError):
    """The tunnel program refused a request; the text has its errno, never a key."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 key pair, raw bytes."""

    private: bytes = field(repr=False)
    public: bytes

    @classmethod
    def make(cls) -> KeyPair:
        """Return a fresh pair."""
        key = X25519PrivateKey.generate()
        return cls(key.private_bytes_raw(), key.public_key().public_bytes_raw())

    def base64_public(self) -> str:
        """Return the public key as people write it."""
        return base64.b64encode(self.public).decode()


def configure(control: Path, lines: Iterable[tuple[str, str]]) -> None:
    """Send a `set` request of key=value `lines` in order; WireGuardFailed if it is refused."""
    answer = _ask(control, "set=1\n" + "".join(f"{key}={value}\n" for key, value in lines))
    if answer.get("errno") != ["0"]:
        raise WireGuardFailed(f"{control.name} refused its configuration: errno {answer.get('errno')}")


def peers(control: Path) -> tuple[str, ...]:
    """Return the public keys (hex) of the peers that the interface has now."""
    return tuple(_ask(control, "get=1\n").get("public_key", ()))


def _ask(control: Path, request: str) -> dict[str, list[str]]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(ANSWER_SECONDS)
        channel.connect(str(control))
        channel.sendall(request.encode() + b"\n")
        text = b""
        while not text.endswith(b"\n\n"):
            chunk = channel.recv(65536)
            if not chunk:
                break
            text += chunk
    answer: dict[str, list[str]] = {}
    for line in text.decode().splitlines():
        key, _, value = line.partition("=")
        answer.setdefault(key, []).append(value)
    return answer
