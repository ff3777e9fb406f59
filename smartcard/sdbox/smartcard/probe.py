"""Is this card a known variant, and if not, what would its file begin with? Costs no try: no VERIFY is sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sdbox.smartcard.pcsc import PcscError, reset_card
from sdbox.smartcard.recognise import has_application
from sdbox.smartcard.show import first_card
from sdbox.smartcard.variants import Variant, load_variants

OTHER_APPLICATIONS: Final = {
    "A000000063504B43532D3135": "PKCS#15",
    "A0000001510000": "GlobalPlatform card manager",
    "A0000006472F0001": "FIDO",
    "A00000039742544659": "CNS / IAS",
}
"""Applications that no variant names, but which say what kind of card it is (ISO 7816-5 registered identifiers)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a card tells of itself: variants whose ATR pattern fits, applications that answered SELECT."""

    reader: str
    atr: str  # hex
    fitting: tuple[str, ...]
    applications: dict[str, str]  # identifier (hex) to whose it is

    @property
    def variant(self) -> str | None:
        """The variant a box takes it for: the only one whose ATR fits; of several, the one whose application it has."""
        several = len(self.fitting) > 1
        left = [name for name in self.fitting if not several or name in self.applications.values()]
        return left[0] if len(left) == 1 else None


def probe_card(wait: float) -> Probe:
    """Ask the first card that is in within `wait` seconds; Refusal(CARD_FAILED) if there is none."""
    inserted = asyncio.run(first_card(wait))
    known = load_variants()
    fitting = tuple(v.name for v in known if any(pattern.matches(inserted.atr) for pattern in v.atrs))
    try:
        return Probe(inserted.reader, inserted.atr.hex().upper(), fitting, _applications(inserted.reader, known))
    finally:
        with contextlib.suppress(PcscError):
            reset_card(inserted.reader)  # leave no application selected


def _applications(reader: str, known: Sequence[Variant]) -> dict[str, str]:
    asked = {variant.aid: variant.name for variant in known if variant.aid is not None} | OTHER_APPLICATIONS
    return {aid: name for aid, name in asked.items() if has_application(reader, bytes.fromhex(aid))}


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
