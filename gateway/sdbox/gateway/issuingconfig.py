"""`[issuing]` of the gateway's settings: who signs renewed card certificates. Without it nothing is renewed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

Days = Annotated[int, msgspec.Meta(ge=1, le=3660)]
KeyKind = Annotated[str, msgspec.Meta(pattern=r"^(p256|p384|rsa2048|rsa3072|rsa4096)$")]


class OwnConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A CA from files. Its key is not the gateway's TLS key: that is checked when the gateway starts."""

    certificate: Path
    key: Path
    life_days: Days = 365


class EstConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An EST server (RFC 7030). The gateway shows a client certificate, or a user's password, or both."""

    url: str
    trust: Path  # PEM: the one anchor its TLS certificate must chain to
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None) or (self.user is None) != (self.password_file is None):
            raise ValueError("certificate and key, user and password_file go together")
        if self.certificate is None and self.user is None:
            raise ValueError("a client certificate or a user is needed")


class IssuingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one CA, and the kinds of keys it is asked for."""

    own: OwnConfig | None = None
    est: EstConfig | None = None
    keys: tuple[KeyKind, ...] = ("p256", "p384", "rsa2048", "rsa3072", "rsa4096")

    def __post_init__(self) -> None:
        if (self.own is None) == (self.est is None):
            raise ValueError("issuing needs one of [issuing.own] and [issuing.est]")


def anchored(issuing: IssuingConfig | None, folder: Path) -> IssuingConfig | None:
    """Return the settings with paths that count from `folder`."""
    if issuing is None:
        return None
    replace = msgspec.structs.replace
    own, est = issuing.own, issuing.est
    if own is not None:
        own = replace(own, certificate=folder / own.certificate, key=folder / own.key)
    if est is not None:
        names = ("trust", "certificate", "key", "password_file")
        est = replace(est, **{n: folder / path for n in names if (path := getattr(est, n)) is not None})
    return replace(issuing, own=own, est=est)
