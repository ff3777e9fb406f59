"""How often a card is asked: once per insertion, first what the screen needs, and nothing is read at a switch."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.bench.softtoken import PIN
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.glimpse import glimpse
from sdbox.smartcard.values import LoginMethod, LoginStatus
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root
TWENTY = tuple(f"p{index:02}" for index in range(20))


@pytest.fixture
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


@dataclass(frozen=True)
class Asked:
    """Commands that the card was asked, and bytes both ways."""

    commands: int
    size: int


def asked(card: EmulatedCard) -> Asked:
    """Return what the card was asked since the last time."""
    before = len(counts(card))
    card.tell("count")
    wait_for(lambda: len(counts(card)) > before, "the emulator to count")
    commands, size = re.findall(r"\d+", counts(card)[-1])
    return Asked(int(commands), int(size))


def counts(card: EmulatedCard) -> list[str]:
    return [event for event in card.events if event.startswith("count")]


def insertion(pcscd: Pcscd, variant: str, projects: tuple[str, ...]) -> dict[str, Asked]:
    """Go from insertion to three signatures by different containers; return what each step asked."""
    seen: dict[str, Asked] = {}
    with emulated_card(pcscd, variant, projects) as card:

        async def scene() -> None:
            await asyncio.to_thread(wait_for, sees_card, "PC/SC to see the card")
            asked(card)
            async with await CardWorker.start(variant_named(variant), READER) as worker:
                await worker.status()
                seen["status"] = asked(card)
                identity = await worker.login(None if variant == "sc-hsm-bio" else bytearray(PIN.encode()))
                seen["login"] = asked(card)
                assert [container.project for container in identity.containers] == list(projects)
                for turn, place in enumerate((0, -1, 0)):
                    await worker.sign(identity.containers[place].key_id, b"content", [0x0403])
                    seen[f"switch-{turn}"] = asked(card)

        card.insert()
        card.tell("auto good")
        asyncio.run(scene())
    return seen


def certificates(card_bytes: int) -> float:
    """Return how many certificates of 400 bytes (ours have more) that may have been."""
    return card_bytes / 400


@pytest.mark.parametrize("variant", ["sc-hsm-bio", "piv"])
def test_a_switch_reads_nothing_however_full_the_card_is(pcscd: Pcscd, variant: str) -> None:
    one, twenty = insertion(pcscd, variant, TWENTY[:1]), insertion(pcscd, variant, TWENTY)
    for turn in range(3):
        assert twenty[f"switch-{turn}"].commands == one[f"switch-{turn}"].commands <= 2
        assert certificates(twenty[f"switch-{turn}"].size) < 1


def test_the_screen_can_ask_for_a_pin_before_any_certificate_is_read(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "piv", TWENTY) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        asked(card)
        assert glimpse(variant_named("piv"), READER) == LoginStatus(LoginMethod.PIN, 3, final_try=False, blocked=False)
        assert asked(card).commands == 2


def test_a_card_with_a_finger_gets_no_first_look(pcscd: Pcscd) -> None:
    """Its sensor is off until the module asks for it: the screen must not ask for a finger before."""
    assert glimpse(variant_named("sc-hsm-bio"), READER) is None


def test_the_login_of_a_card_with_a_finger_reads_nothing_again(pcscd: Pcscd) -> None:
    one, twenty = insertion(pcscd, "sc-hsm-bio", TWENTY[:1]), insertion(pcscd, "sc-hsm-bio", TWENTY)
    assert twenty["login"].commands == one["login"].commands
    assert certificates(twenty["login"].size) < 1
