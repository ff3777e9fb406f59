"""One-time logins of a bubble's RDP server, in its SAM file: `user:domain:lm hash:nt hash:::` as WinPR reads it.

The server opens the file anew for each login. The file holds hashes of secrets that live as long as their session.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from Cryptodome.Hash import MD4

_HEADER = "# one-time logins, written by sdbox-gateway\n"


@dataclass(frozen=True, slots=True)
class Login:
    """A user that exists for one session. NLA with an empty domain."""

    user: str
    secret: str = field(repr=False)


def nt_hash(secret: str) -> str:
    """Return the NT hash: MD4 of the UTF-16LE secret ([MS-NLMP] 3.3.1, NTOWFv1). NLA leaves no better choice."""
    return MD4.new(secret.encode("utf-16-le")).hexdigest()  # noqa: S303 - what the protocol prescribes


class Logins:
    """The logins of one bubble. Starts empty: what an earlier process left in the file is removed at once."""

    def __init__(self, sam_file: Path) -> None:
        self._path = sam_file
        self._hashes: dict[str, str] = {}
        self._write()

    def add(self) -> Login:
        """Make a login with 192 random bits. OSError if the file cannot be written."""
        login = Login(f"u{secrets.token_hex(8)}", secrets.token_urlsafe(24))
        self._hashes[login.user] = nt_hash(login.secret)
        self._write()
        return login

    def remove(self, user: str) -> None:
        """End a login; an unknown one is no error. OSError if the file cannot be written: it must be tried again."""
        self._hashes.pop(user, None)
        self._write()

    def _write(self) -> None:
        """Replace the file in one step: the server must never read half of it."""
        partial = self._path.with_name(f".{self._path.name}.new")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_HEADER + "".join(f"{user}:::{digest}:::\n" for user, digest in self._hashes.items()))
        partial.replace(self._path)
