"""Is this card a known variant, and if not, what would its file begin with? Costs no try: no VERIFY is sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sdbox.smartcard.pcsc import PcscError, ask_card, reset_card
from sdbox.smartcard.show import first_card
from sdbox.smartcard.variants import Variant, load_variants

OTHER_APPLICATIONS: Final = {
    "A000000063504B43532D3135": "PKCS#15",
    "A0000001510000": "GlobalPlatform card manager",
    "A0000006472F0001": "FIDO",
    "A00000039742544659": "CNS / IAS",
}
"""Applications that no variant names, but which say what kind of card it is (ISO 7816-5 registered identifiers)."""

SELECT: Final = bytes.fromhex("00A40400")  # ISO 7816-4, 11.2.2: by application identifier
FOUND: Final = (0x90, 0x61, 0x62)  # first status byte: selected, selected with data waiting, selected with a warning


@dataclass(frozen=True, slots=True)
class Probe:
    """What a card tells of itself: variants whose ATR pattern fits, applications that answered SELECT."""

    reader: str
    atr: str  # hex
    fitting: tuple[str, ...]
    applications: dict[str, str]  # identifier (hex) to whose it is

    @property
    def variant(self) -> str | None:
        """The variant a box takes it for: it must be the only one."""
        return self.fitting[0] if len(self.fitting) == 1 else None


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
    return {aid: name for aid, name in asked.items() if _answers(reader, bytes.fromhex(aid))}


def _answers(reader: str, aid: bytes) -> bool:
    """Whether SELECT finds the application; a card that stops answering has none."""
    try:
        answer = ask_card(reader, SELECT + bytes([len(aid)]) + aid + b"\x00")
    except PcscError:
        return False
    return len(answer) > 1 and answer[-2] in FOUND


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
