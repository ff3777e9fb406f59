"""Card variants as data: one TOML file each, checked against a schema before any of it is used."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.values import LoginMethod

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9A-F]{2})+$")]


class VariantError(Exception):
    """A variant file does not follow the schema. The message names the file and the field."""


class Backend(StrEnum):
    """What talks to the card."""

    PKCS11 = "pkcs11"  # a PKCS#11 module
    APDU_OCC = "apdu-occ"  # our own PIV on-card comparison: no module does it


class AtrPattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ATR and which of its bits count. Both have the same length; a card's ATR must have it too."""

    value: Hex
    mask: Hex

    def __post_init__(self) -> None:
        if len(self.value) != len(self.mask):
            raise ValueError("an ATR and its mask have the same length")

    def matches(self, atr: bytes) -> bool:
        value, mask = bytes.fromhex(self.value), bytes.fromhex(self.mask)
        return len(atr) == len(value) and all(a & m == v & m for a, v, m in zip(atr, value, mask, strict=True))


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the PKCS#11 module may be, first found wins; `token` is its label where no reader tells tokens apart.

    `driver` is the one OpenSC card driver to try (OPENSC_DRIVER): the others' questions are not sent to the card.
    """

    paths: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    token: str | None = None
    driver: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]+$")] | None = None


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the holder is verified. `counter` is the VERIFY without data that only asks for the counter (ISO 7816-4).

    `empty_pin`: the module asks for a finger when the PIN is empty (ykcs11), and may say yes to a wrong one; the card
    is asked afterwards, by `counter`. `proves_itself`: the module asks for a finger only once it believes the card, by
    a chain of certificates whose roots the image holds.
    """

    method: LoginMethod
    deadline: Annotated[int, msgspec.Meta(ge=1, le=120)]  # seconds a login may take
    counter: Annotated[str, msgspec.Meta(pattern=r"^0020[0-9A-F]{4}$")] | None = None
    empty_pin: bool = False
    proves_itself: bool = False

    def __post_init__(self) -> None:
        if self.empty_pin and (self.counter is None or self.method is not LoginMethod.FINGER):
            raise ValueError("empty_pin goes with a finger and a counter")


class Renewal(StrEnum):
    """How a container's certificate is renewed by the box, with what the holder's login allows and nothing more."""

    NEW_KEY = "new-key"  # a new key pair beside the old one; the old one goes when the new one has signed
    SAME_KEY = "same-key"  # a second certificate for the same key, where the card can hold both at once
    NONE = "none"  # writing needs a key that a box must not have (PIV 9B, OpenPGP PW3, GIDS admin key), or is not tried


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Part of the container map: `count` containers one after another. Each value is the first's, in hex."""

    first: Hex  # the card's reference of the private key
    id: Hex  # CKA_ID that the module gives it
    certificate: Hex | None = None  # its file or data object; none if the card has no fixed place for it
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


COMPACT: Final = "iso-19794-2-compact"


class Finger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the card compares: `on-card` has its own sensor and takes no template. Limits are in minutiae.

    A compact template is made by the box's sensor, within the limits of the card's own BIT group.
    """

    format: Literal["on-card", "iso-19794-2-compact"]
    least: Annotated[int, msgspec.Meta(ge=0)] = 0
    most: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0


KeyKindName = Literal["p256", "p384", "rsa2048"]


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of card."""

    name: Name
    title: str
    login: Login
    containers: Annotated[int, msgspec.Meta(ge=1)]  # projects such a card can hold
    backend: Backend = Backend.PKCS11
    module: Module | None = None
    atrs: tuple[AtrPattern, ...] = ()
    aid: Hex | None = None
    kinds: Annotated[tuple[KeyKindName, ...], msgspec.Meta(min_length=1)] = ("p256",)  # keys it signs with for TLS 1.3
    keys: tuple[Keys, ...] = ()  # the container map
    finger: Finger | None = None
    renewal: Renewal = Renewal.NONE
    tested: tuple[str, ...] = ()  # what it was tested against
    notes: str = ""

    def __post_init__(self) -> None:
        if self.keys and sum(part.count for part in self.keys) != self.containers:
            raise ValueError("the counts of keys add up to containers")
        if self.finger is not None and self.login.method is not LoginMethod.FINGER:
            raise ValueError("finger describes a card whose login is a finger")
        if (self.backend is Backend.PKCS11) is not (self.module is not None):
            raise ValueError(f"backend {self.backend.value!r} and table `module` do not go together")
        if (self.backend is Backend.APDU_OCC) is not self.wants_box_sensor:
            raise ValueError("backend 'apdu-occ' and finger.format 'iso-19794-2-compact' go together")
        if self.backend is Backend.APDU_OCC and self.aid is None:
            raise ValueError("backend 'apdu-occ' needs `aid`")

    @property
    def wants_box_sensor(self) -> bool:
        """Whether the finger is put on the box's sensor, and not on the card's or the reader's."""
        return self.finger is not None and self.finger.format == COMPACT


def variants_folder() -> Path:
    """Return where the files are: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "variants"
    return installed if installed.is_dir() else here.parents[1] / "variants"


def read_variant(path: Path) -> Variant:
    """Return the variant in `path`; VariantError with file and field if it does not follow the schema."""
    try:
        variant = msgspec.toml.decode(path.read_bytes(), type=Variant)
    except (msgspec.MsgspecError, ValueError, OSError) as error:
        raise VariantError(f"{path.name}: {error}") from error
    if variant.name != path.stem:
        raise VariantError(f"{path.name}: name is {variant.name!r}, but the file's name must be the variant's")
    return variant


def load_variants(folder: Path | None = None) -> tuple[Variant, ...]:
    """Return all variants of `folder` (ours by default), sorted by name."""
    files = sorted((folder or variants_folder()).glob("*.toml"))
    if not files:
        raise VariantError("no card variant is installed")
    return tuple(read_variant(path) for path in files)


def variant_named(name: str) -> Variant:
    """Return the variant called `name`; Refusal(CARD_UNKNOWN) if there is none."""
    for variant in load_variants():
        if variant.name == name:
            return variant
    raise Refusal(Reason.CARD_UNKNOWN, f"no variant {name!r}")


def variants_for(atr: bytes) -> tuple[Variant, ...]:
    """Return the variants whose ATR pattern fits: several where one chip carries different applets."""
    return tuple(variant for variant in load_variants() if any(pattern.matches(atr) for pattern in variant.atrs))


MODULE_MISSING: Final = "no PKCS#11 module found: is the package installed?"


def module_path(variant: Variant) -> str:
    """Return the first PKCS#11 module of the variant that is installed; Refusal(CARD_FAILED) if none is."""
    for path in variant.module.paths if variant.module else ():
        if Path(path).is_file():
            return path
    raise Refusal(Reason.CARD_FAILED, MODULE_MISSING)
