"""An emulated card, its wire and its command lines: what `sdbox card emulate` runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.counter import CountedCard, WatchedCard
from sdbox.smartcard.virtual.cut import CutCard
from sdbox.smartcard.virtual.cvc import Holder, untrusted_root
from sdbox.smartcard.virtual.faults import Fault, with_fault
from sdbox.smartcard.virtual.models import MODELS, Parts
from sdbox.smartcard.virtual.personalise import Issuer, Project, card_serial, fill_containers
from sdbox.smartcard.virtual.plug import Reader, Wire
from sdbox.smartcard.virtual.sensor import ENROLLED, Report, Sensor
from sdbox.smartcard.virtual.usbredir import UsbWire
from sdbox.smartcard.virtual.vpcd import VpcdWire
from sdbox.smartcard.virtual.vscard import VscardWire

DEVELOPMENT_PIN: Final = b"123456"  # of emulated cards only
OFF: Final = "off"
NUMBERED: Final = {"cut", "stall"}  # commands that take a number, or `off`


class Touchable(Protocol):
    """A sensor that fingers are put on: the card's own, or the box's."""

    def touch(self, finger: str) -> bool:
        """Put a finger down; False if it was not noticed."""

    def rest(self, finger: str | None) -> None:
        """Leave a finger on it; None takes it away."""


class WireKind(StrEnum):
    """The three wires."""

    USB = "usb"
    VPCD = "vpcd"
    VSCARD = "vscard"


@dataclass(frozen=True, slots=True)
class CardPlan:
    """A card to be made. `pin` is only used by variants that have one."""

    variant: str
    projects: Sequence[Project]
    issuer: Issuer
    pin: bytes = DEVELOPMENT_PIN
    touch_seconds: float = 10.0
    fault: Fault | None = None
    fault_at_once: bool = False  # not only from the first login on
    root: Holder | None = None  # of the device's certificate; without it: one that nobody trusts
    finger: str = ENROLLED  # on a card that compares; "" for nobody's

    def __repr__(self) -> str:
        """Leave the PIN out (S8)."""
        return f"CardPlan({self.variant!r})"


def open_wire(kind: WireKind, address: str) -> Wire:
    """Open the wire at `address`: vpcd `127.0.0.1:PORT`, else the chardev's socket. ValueError for a bad address."""
    if kind is WireKind.USB:
        return UsbWire(address)
    if kind is WireKind.VSCARD:
        return VscardWire(address)
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost") or not port.isdigit():
        raise ValueError("the address of a vpcd wire is 127.0.0.1:PORT")
    return VpcdWire("127.0.0.1", int(port))


def make_card(plan: CardPlan, report: Report) -> tuple[VirtualCard, Sensor]:
    """Make the card; ValueError if its kind is not emulated. The sensor of a card without one does nothing."""
    containers = fill_containers(plan.projects, plan.issuer)
    serial = card_serial(plan.variant, plan.projects)
    sensor = Sensor(report, plan.touch_seconds)
    model = MODELS.get(plan.variant)
    if model is None:
        raise ValueError(f"no emulator for variant {plan.variant!r}")
    root = plan.root or untrusted_root()
    card = model(Parts(serial, containers, plan.pin, sensor, report, root, plan.finger))
    return with_fault(card, plan.fault, report, at_once=plan.fault_at_once), sensor


class HeldCard:
    """A card in somebody's hand, and the sensor that its finger goes on."""

    def __init__(self, card: VirtualCard, sensor: Touchable, report: Report) -> None:
        self.counted = CountedCard(card)
        self.cut = CutCard(self.counted, report)
        self.card = WatchedCard(self.cut, report)
        self.sensor = sensor


class Emulator:
    """Obeys command lines and reports events, one per line. It never writes a PIN."""

    def __init__(self, reader: Reader, cards: Sequence[HeldCard], report: Report) -> None:
        """The first of `cards` is the one in hand; `swap` takes the next."""
        self._reader = reader
        self._cards = deque(cards)
        self._report = report
        self._inside = False
        self._obey: dict[str, Callable[[], None]] = {
            "insert": self._insert,
            "remove": self._remove,
            "swap": self._swap,
            "plug": lambda: self._tell(changed=self._reader.plug(), event="reader in"),
            "unplug": lambda: self._tell(changed=self._reader.unplug(), event="reader out"),
            "count": lambda: self._report("count apdus={} bytes={}".format(*self._hand.counted.take())),
        }
        self._obey_with: dict[str, Callable[[str], None]] = {
            "touch": self._touch,
            "auto": lambda finger: self._hand.sensor.rest(None if finger == OFF else finger),
            "cut": lambda writes: self._hand.cut.cut(None if writes == OFF else int(writes)),
            "echo": lambda word: self._report(f"echo {word}"),
            "stall": lambda commands: self._hand.cut.stall(None if commands == OFF else int(commands)),
        }

    def run(self, lines: Iterable[str]) -> None:
        """Obey until `quit` or the end of input; the card is then pulled."""
        self._report("ready")
        try:
            for line in lines:
                word, _, argument = line.strip().partition(" ")
                if word == "quit":
                    return
                self._do(word, argument)
        finally:
            self._remove()

    @property
    def _hand(self) -> HeldCard:
        return self._cards[0]

    def _do(self, word: str, argument: str) -> None:
        known = (
            argument and word in self._obey_with and (word not in NUMBERED or argument == OFF or argument.isdecimal())
        )
        if known:
            self._obey_with[word](argument)
        elif word in self._obey:
            self._obey[word]()
        elif word:
            self._report("unknown command")

    def _tell(self, *, changed: bool, event: str) -> None:
        if changed:
            self._report(event)

    def _touch(self, finger: str) -> None:
        if not self._hand.sensor.touch(finger):
            self._report("sensor off")

    def _insert(self) -> None:
        if not self._inside:
            self._reader.insert(self._hand.card)
            self._inside = True
            self._report("card in")

    def _remove(self) -> None:
        if self._inside:
            self._reader.remove()
            self._inside = False
            self._report("card out")

    def _swap(self) -> None:
        """Put the next card into the place of this one, as quickly as no hand can."""
        was_inside = self._inside
        self._remove()
        self._cards.rotate(-1)
        if was_inside:
            self._insert()
