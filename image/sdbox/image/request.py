"""What an image build is asked for, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sdbox.host.making import CanNotMake
from sdbox.host.places import state_folder


class Profile(StrEnum):
    """PRODUCTION has no login of any kind. DEBUG has a console and is signed with another key, so it never attests."""

    PRODUCTION = "production"
    DEBUG = "debug"


class Producer(StrEnum):
    """Who makes the root tree."""

    DEBIAN = "debian"
    BUILDROOT = "buildroot"


class ImageError(CanNotMake):
    """A build can not go on; the text is one line for the user, and says what to do."""


class BadRequestError(ImageError):
    """What was asked for can not be built, or not by this user on this host: nothing was begun."""


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """What a site sets: where its gateway is, and the CA that vouches for it."""

    centre_ca: Path  # PEM, the only trust anchor for the gateway
    endpoints: tuple[str, ...] = ("203.0.113.10:443",)
    gateway_name: str = "gateway.sdbox.test"
    switch_key: str = "KEY_PAUSE"
    card_roots: tuple[Path, ...] = ()  # CVC roots of cards with secure messaging
    idle_minutes: int | None = None  # when a card's session ends by itself; None: the agent's own value
    session_minutes: int | None = None
    card_token: str | None = None  # a variant without a reader (SoftHSM); debug profile only


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and its certificate, PEM files."""

    key: Path
    certificate: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> SigningKey:
        """Return `name`.key and `name`.crt of `folder`."""
        return cls(folder / f"{name}.key", folder / f"{name}.crt")


def development_keys() -> Path:
    """Return the folder of `sdbox.host.pki.ensure_development_pki`."""
    return state_folder() / "dev-keys"


def development_site() -> SiteSettings:
    """Return the settings of the bench."""
    keys = development_keys()
    return SiteSettings(centre_ca=keys / "centre-ca.crt", card_roots=(keys / "card-root.cvcert",))


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One image. `keys` holds the Secure Boot keys: PK, KEK, db, box-debug-db (`.crt`, `.key`)."""

    output: Path
    profile: Profile = Profile.PRODUCTION
    producer: Producer = Producer.DEBIAN
    image_version: int = 1
    site: SiteSettings = field(default_factory=development_site)
    keys: Path = field(default_factory=development_keys)


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """The files of a finished image; all exist. `variants.py` makes copies that differ in one thing."""

    disk: Path
    uki: Path
    unsigned_uki: Path
    ovmf_vars: Path
    ovmf_code: Path
    manifest: Path
    reference: Path
    kernel: Path
    initrd: Path
    cmdline: Path  # as in the UKI, for a direct kernel boot
    os_release: Path
    root_hash: str
    profile: Profile


def signing_name(profile: Profile) -> str:
    """Return the name of the key that signs: a debug image never carries production's signature."""
    return "db" if profile is Profile.PRODUCTION else "box-debug-db"
