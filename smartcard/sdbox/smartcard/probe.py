"""Is this card a known variant, and if not, what would its file begin with? Costs no try: no VERIFY is sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sdbox.smartcard.errand import has_application
from sdbox.smartcard.pcsc import PcscError, reset_card
from sdbox.smartcard.show import first_card
from sdbox.smartcard.variants import Variant, load_variants, variants_for

OTHER_APPLICATIONS: Final = {
    "A000000063504B43532D3135": "PKCS#15",
    "A0000001510000": "GlobalPlatform card manager",
    "A0000006472F0001": "FIDO",
}
"""Applications that no variant names, but which say what kind of card it is (ISO 7816-5 registered identifiers)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a card tells of itself: variants whose ATR pattern fits, applications that answered SELECT.

    `variant` is what a box takes it for: the only one that fits; of several, the only one whose application answered.
    """

    reader: str
    atr: str  # hex
    fitting: tuple[str, ...]
    applications: dict[str, str]  # identifier (hex) to whose it is
    variant: str | None


def probe_card(wait: float) -> Probe:
    """Ask the first card that is in within `wait` seconds; Refusal(CARD_FAILED) if there is none."""
    inserted = asyncio.run(first_card(wait))
    fitting = variants_for(inserted.atr)
    try:
        applications = _applications(inserted.reader, load_variants())
    finally:
        with contextlib.suppress(PcscError):
            reset_card(inserted.reader)  # leave no application selected
    left = fitting if len(fitting) == 1 else [variant for variant in fitting if variant.aid in applications]
    names = tuple(variant.name for variant in fitting)
    taken = left[0].name if len(left) == 1 else None
    return Probe(inserted.reader, inserted.atr.hex().upper(), names, applications, taken)


def _applications(reader: str, known: Sequence[Variant]) -> dict[str, str]:
    """Several variants may have the same application: all of their names are told."""
    owners: dict[str, list[str]] = {}
    for aid, name in (*((variant.aid, variant.name) for variant in known), *OTHER_APPLICATIONS.items()):
        if aid is not None:
            owners.setdefault(aid, []).append(name)
    return {aid: ", ".join(names) for aid, names in owners.items() if has_application(reader, bytes.fromhex(aid))}


def draft(probe: Probe) -> Iterator[str]:
    """Yield the lines of a variant file for the card: it follows the schema, and says what must be found out."""
    aid = next(iter(probe.applications), None)
    yield "# Draft: rename it, answer the questions, and go on with docs/cards.md."
    yield 'name = "new-card"'
    yield 'title = "which product, which applet, which version?"'
    if aid is not None:
        yield f'aid = "{aid}"  # answered SELECT: {", ".join(probe.applications.values())}'
    yield "containers = 1  # how many key pairs can it hold?"
    yield "tested = []"
    yield 'notes = "what did you see with which version of the module?"'
    yield "\n[[atrs]]"
    yield f'value = "{probe.atr}"'
    yield f'mask = "{"F" * len(probe.atr)}"  # 00 for bytes that differ between two cards of the kind'
    yield "\n[module]"
    yield 'paths = ["/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"]  # try: pkcs11-tool --list-token-slots'
    yield "\n[login]"
    yield 'method = "pin"'
    yield "deadline = 30  # seconds"
    yield '# counter = "00200081"  # the VERIFY without data that only asks for the tries left; if in doubt, none'
