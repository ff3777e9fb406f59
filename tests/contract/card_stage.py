"""A card that is in, with this host's software or the box's own, and how its holder behaves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_places import places
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd
from sdbox.bench.card_stack import Stack
from sdbox.bench.softtoken import PIN
from sdbox.smartcard.client import CardWorker
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import Variant, variant_named
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from tests.service.smartcard_bench import make_softhsm_token

PROJECTS = ("atlas", "boreal", "cassini")
WRONG_PIN = "654321"


@dataclass(frozen=True, slots=True)
class Stage:
    """A token, and where it is met."""

    variant: Variant
    reader: str
    stack: Stack

    def finger(self, name: str) -> None:
        """Lay a finger on the sensor, if there is one."""

    def credential(self, *, right: bool) -> bytearray | None:
        if self.variant.login.method is LoginMethod.FINGER:
            self.finger("good" if right else "wrong")
            return None
        return bytearray((PIN if right else WRONG_PIN).encode())

    @property
    def projects(self) -> list[str]:
        return list(PROJECTS[: self.variant.containers])

    async def start(self, variant: Variant | None = None) -> CardWorker:
        return await CardWorker.start(variant or self.variant, self.reader, python=self.stack.python)


@dataclass(frozen=True, slots=True)
class CardStage(Stage):
    """An emulated card in a reader."""

    card: EmulatedCard
    pcscd: Pcscd

    def finger(self, name: str) -> None:
        self.card.tell(f"auto {name}")


@contextmanager
def card_stage(
    name: str, stack: Stack, options: Sequence[str] = (), *, pcscd: Pcscd | None = None
) -> Iterator[CardStage]:
    """Put an emulated card into the reader of `pcscd`, or of one of its own."""
    if pcscd is None:
        with running_pcscd(stack) as own, card_stage(name, stack, options, pcscd=own) as ready:
            yield ready
        return
    variant = variant_named(name)
    with emulated_card(pcscd, name, PROJECTS[: variant.containers], options) as card:
        card.insert()
        stack.wait_for_card(READER)
        yield CardStage(variant, READER, stack, card, pcscd)


@contextmanager
def softhsm_stage(stack: Stack) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(dir=places().folder) as folder:
        make_softhsm_token(Path(folder), fill_containers([Project(name) for name in PROJECTS], Issuer.create()))
        yield Stage(variant_named("softhsm"), "", stack)
