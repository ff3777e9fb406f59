"""Boxes that were changed in one thing, and which checks of the gateway must catch it: what the corpus is recorded from
and what the system tests boot. `make` gives the changed image from a finished one, in a work folder of its own.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from sdbox.bench.stand import MICROCODE
from sdbox.host.tools import ensure_tools_tree
from sdbox.image.ovmf import FIRMWARE, STRICT_CODE, VARIABLES, EnrolledKeys, write_boot_option, write_firmware
from sdbox.image.request import BuiltImage, SigningKey, development_keys
from sdbox.image.variants import addon, signed_with, with_command_line, with_files_beside

WORDS = "audit=0"  # harmless by themselves
REVOKED = "5d" * 32  # of no image there is


@dataclass(frozen=True, slots=True)
class Change:
    """`checks` (row:code) are what the gateway's record must name, these and no others; none: the box is let in.

    `code` is what the box's screen shows then. A `code` without `checks` is the initrd's own, on the console.
    `cut`: the box is let in, then its power is cut, and its next boot is what is looked at. `microcode` is the revision
    that its processor reports.
    """

    odd: str
    make: Callable[[BuiltImage, Path], BuiltImage]
    checks: tuple[str, ...] = ()
    code: str = ""
    cut: bool = False
    microcode: int = MICROCODE

    @property
    def is_proved(self) -> bool:
        """Whether the box gets as far as to show evidence."""
        return bool(self.checks) or not self.code


def _as_it_is(image: BuiltImage, _: Path) -> BuiltImage:
    return image


def _secure_boot_off(image: BuiltImage, work: Path) -> BuiltImage:
    """Variables without any key: setup mode."""
    variables = work / "no-keys.fd"
    shutil.copyfile(ensure_tools_tree() / FIRMWARE / VARIABLES, variables)
    return dataclasses.replace(image, ovmf_vars=variables)


def _other_firmware(image: BuiltImage, _: Path) -> BuiltImage:
    """Another build of the same version, from the same package."""
    return dataclasses.replace(image, ovmf_code=ensure_tools_tree() / FIRMWARE / STRICT_CODE)


def _foreign_key(image: BuiltImage, work: Path) -> BuiltImage:
    """The same image signed by somebody else, in firmware that trusts somebody else."""
    foreign = _key("box-debug-db")
    image = dataclasses.replace(image, disk=signed_with(image, foreign, work / "foreign.raw"))
    return _enrolled(image, work / "foreign.fd", db=foreign.certificate)


def _foreign_owner(image: BuiltImage, work: Path) -> BuiltImage:
    return _enrolled(image, work / "owner.fd", pk=_key("box-debug-db").certificate)


def _grown_dbx(image: BuiltImage, work: Path) -> BuiltImage:
    return _enrolled(image, work / "dbx.fd", revoked=(REVOKED,))


def _command_line(image: BuiltImage, work: Path) -> BuiltImage:
    disk = with_command_line(image, _key("db"), work / "line.raw", extra=(WORDS,))
    return dataclasses.replace(image, disk=disk)


def _option_words(image: BuiltImage, work: Path) -> BuiltImage:
    variables = work / "option.fd"
    # With Secure Boot off they replace the signed ones, and the initrd's refusal would have no console to be read on.
    write_boot_option(image.ovmf_vars, variables, words=f"{WORDS} console=tty0 console=ttyS0")
    return dataclasses.replace(image, ovmf_vars=variables)


def _foreign_addons(image: BuiltImage, work: Path) -> BuiltImage:
    unsigned = addon(work / "unsigned.addon.efi", None, cmdline=WORDS)
    foreign = addon(work / "foreign.addon.efi", _key("box-debug-db"), cmdline=WORDS)
    return _beside(image, work / "foreign-addons.raw", unsigned, foreign)


def _addon(image: BuiltImage, work: Path) -> BuiltImage:
    return _beside(image, work / "addon.raw", addon(work / "extra.addon.efi", _key("db"), file="from-an-addon"))


def _addon_words(image: BuiltImage, work: Path) -> BuiltImage:
    return _beside(image, work / "words.raw", addon(work / "words.addon.efi", _key("db"), cmdline=WORDS))


def _named(name: str) -> Callable[[BuiltImage, Path], BuiltImage]:
    """Return the change that puts a file of this name beside the UKI; systemd-stub does not look into it."""

    def make(image: BuiltImage, work: Path) -> BuiltImage:
        file = work / name
        file.write_bytes(b"not from the image build")
        return _beside(image, work / f"{name}.disk", file)

    return make


def _all(*makes: Callable[[BuiltImage, Path], BuiltImage]) -> Callable[[BuiltImage, Path], BuiltImage]:
    return lambda image, work: reduce(lambda changed, make: make(changed, work), makes, image)


CHANGES: dict[str, Change] = {
    "good": Change("nothing: the bench's box as it is", _as_it_is),
    "power-cut": Change("the boot after its power was cut: another reset", _as_it_is, cut=True),
    "ignored": Change(
        "kernel words in a boot option, add-ons without our signature: systemd-stub takes none of them",
        _all(_option_words, _foreign_addons),
    ),
    "secure-boot-off": Change(
        "firmware without keys, Secure Boot off", _secure_boot_off, ("21:secure-boot-off", "22:pcr-4"), "box-image"
    ),
    "foreign-key": Change(
        "the same image signed by somebody else, in firmware that trusts somebody else",
        _foreign_key,
        ("21:secure-boot-keys",),
        "box-image",
    ),
    "other-firmware": Change("firmware of another build", _other_firmware, ("25:firmware",), "box-image"),
    "foreign-owner": Change("another platform key", _foreign_owner, ("21:secure-boot-keys",), "box-image"),
    "grown-dbx": Change("one more revocation in dbx than is known here", _grown_dbx, ("21:dbx",), "box-image"),
    "command-line": Change(
        "our signature, one word more on the command line", _command_line, ("22:pcr-4", "26:command-line"), "box-image"
    ),
    "addon": Change(
        "a kernel add-on with our signature that brings an initrd", _addon, ("22:pcr-4", "23:pcr-12"), "box-image"
    ),
    "credential": Change("a credential beside the UKI", _named("sdbox.cred"), ("23:pcr-12",), "box-image"),
    "extension": Change("a system extension beside the UKI", _named("sdbox.raw"), ("23:pcr-13",), "box-image"),
    "configuration": Change(
        "a configuration extension beside the UKI", _named("sdbox.confext.raw"), ("23:pcr-12",), "box-image"
    ),
    "microcode-old": Change(
        "a processor whose microcode is one revision behind the bench's",
        _as_it_is,
        ("27:microcode",),
        "box-microcode",
        microcode=MICROCODE - 1,
    ),
    "addon-words": Change("a kernel add-on with our signature that brings words", _addon_words, (), "image-cmdline"),
    "option-words": Change(
        "kernel words in a boot option, which systemd-stub takes with Secure Boot off",
        _all(_secure_boot_off, _option_words),
        (),
        "image-cmdline",
    ),
}


def together(names: Sequence[str]) -> Change:
    """Return the change that is all of `names` at once, each with checks of its own: one boot shows them all."""
    parts = [CHANGES[name] for name in names]
    checks = [check for part in parts for check in part.checks]
    if len(set(checks)) != len(checks) or len({part.code for part in parts}) != 1:
        raise ValueError("one of these changes would hide another")
    return Change(
        "; ".join(part.odd for part in parts),
        _all(*(part.make for part in parts)),
        tuple(checks),
        parts[0].code,
        microcode=min(part.microcode for part in parts),
    )


def _key(name: str) -> SigningKey:
    return SigningKey.named(development_keys(), name)


def _enrolled(
    image: BuiltImage, variables: Path, *, pk: Path | None = None, db: Path | None = None, revoked: tuple[str, ...] = ()
) -> BuiltImage:
    """Give `image` firmware variables in which these differ from the development keys."""
    keys = EnrolledKeys(
        pk or _key("PK").certificate, _key("KEK").certificate, db or _key("db").certificate, revoked=revoked
    )
    write_firmware(keys, variables.with_suffix(".code"), variables)
    return dataclasses.replace(image, ovmf_vars=variables)


def _beside(image: BuiltImage, disk: Path, *files: Path) -> BuiltImage:
    return dataclasses.replace(image, disk=with_files_beside(image, disk, *files))
