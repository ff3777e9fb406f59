"""Which card is met where: every emulated variant with this host's software and with the box's own."""

from __future__ import annotations

from sdbox.smartcard.variants import variant_named
from sdbox.smartcard.virtual.models import MODELS

PLACES = ("host", "box")
# Debian 12's OpenSC has no OpenPACE, so no secure messaging; its ykcs11 knows no finger.
ONLY_ON_THE_BOX = {"goid", "yubikey-bio"}

# OpenSC 0.24 to 0.27.1 forgets what it reads of an IAS-ECC card's PIN (tests/service/test_smartcard_iasecc.py).
ONLY_ON_THE_HOST = {"ias-ecc"}

ONLY_RSA = {("isoapplet", "host")}  # OpenSC 0.23 takes version 1.0 of the applet for an older one


def is_met(name: str, place: str) -> bool:
    return name not in (ONLY_ON_THE_HOST if place == "box" else ONLY_ON_THE_BOX)


def cases(*others: str) -> list[tuple[str, str]]:
    """Return variant and place, for all emulated variants and the `others`."""
    names = sorted({*MODELS, *others})
    return [(name, place) for name in names for place in PLACES if is_met(name, place)]


def key_cases() -> list[tuple[str, str, str]]:
    """Return variant, kind of key and place, of variants with a PKCS#11 module: each kind that it knows there."""
    return [
        (name, kind, place)
        for name, place in cases()
        if variant_named(name).module is not None
        for kind in variant_named(name).kinds
        if (name, place) not in ONLY_RSA or kind.startswith("rsa")
    ]


def key_ids(name: str) -> list[str]:
    """Return CKA_ID of each container that the variant's map has, in hex."""
    ids = []
    for part in variant_named(name).keys:
        first, size = int(part.id, 16), len(part.id) // 2
        ids += [(first + index).to_bytes(size, "big").hex() for index in range(part.count)]
    return ids
