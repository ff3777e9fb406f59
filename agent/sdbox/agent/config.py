"""The site's settings, read once from the verified root file system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from sdbox.protocol.values import BoxId

SITE: Final = Path("/usr/lib/sdbox/site.toml")
PRODUCT_UUID: Final = Path("/sys/class/dmi/id/product_uuid")
OS_RELEASE: Final = Path("/usr/lib/os-release")
# linux/input-event-codes.h: keys that no desktop needs, of which a site picks one.
SWITCH_KEYS: Final = {
    "KEY_SYSRQ": 99, "KEY_SCROLLLOCK": 70, "KEY_PAUSE": 119, "KEY_F11": 87, "KEY_F12": 88, "KEY_COMPOSE": 127,
    "KEY_PROG1": 148, "KEY_HOMEPAGE": 172, "KEY_F13": 183, "KEY_F14": 184, "KEY_F15": 185, "KEY_SWITCHVIDEOMODE": 227,
}  # fmt: skip


class ConfigError(Exception):
    """A file the agent needs is missing or wrong. The message names it."""


class GatewaySite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the centre is, and the only trust anchor for its TLS certificate."""

    endpoints: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    name: str
    ca: str


class KeysSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys with a meaning of their own, by their evdev names."""

    switch: str = "KEY_PAUSE"

    def __post_init__(self) -> None:
        if self.switch not in SWITCH_KEYS:
            raise ValueError(f"switch is none of {', '.join(SWITCH_KEYS)}")


class CardSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a card's session ends by itself, in minutes.

    `token` names a variant without a reader (SoftHSM); a pipe says when it is in. Debug profile only.
    """

    token: str | None = None
    idle_minutes: Annotated[int, msgspec.Meta(ge=1, le=240)] = 15  # nobody touched keyboard, mouse or screen
    session_minutes: Annotated[int, msgspec.Meta(ge=1, le=1440)] = 600  # since the finger or PIN


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """site.toml."""

    gateway: GatewaySite
    keys: KeysSite = KeysSite()
    card: CardSite = CardSite()


def load_site(path: Path = SITE) -> Site:
    """Read site.toml; ConfigError with the field if it does not follow the schema."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Site)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: {error}") from error


def read_box_id(path: Path = PRODUCT_UUID) -> BoxId:
    """Return the board's UUID; ConfigError if the firmware gives none."""
    try:
        return BoxId.parse(path.read_text(encoding="ascii").strip().lower())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def image_version(path: Path = OS_RELEASE) -> str:
    """Return IMAGE_VERSION of os-release (os-release(5)), "" if it has none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: {error}") from error
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get("IMAGE_VERSION", "").strip("\"'")
