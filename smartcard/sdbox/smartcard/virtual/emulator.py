"""An emulated card, its wire and its command lines: what `sdbox card emulate` runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from sdbox.smartcard.virtual.apdu import VirtualCard
from sdbox.smartcard.virtual.counter import CountedCard
from sdbox.smartcard.virtual.cut import CutCard
from sdbox.smartcard.virtual.cvc import Holder, untrusted_root
from sdbox.smartcard.virtual.faults import Fault, with_fault
from sdbox.smartcard.virtual.models import MODELS, Parts
from sdbox.smartcard.virtual.personalise import Issuer, Project, card_serial, fill_containers
from sdbox.smartcard.virtual.sensor import ENROLLED, Report, Sensor
from sdbox.smartcard.virtual.usbredir import UsbWire
from sdbox.smartcard.virtual.vpcd import VpcdWire
from sdbox.smartcard.virtual.vscard import VscardWire

DEVELOPMENT_PIN: Final = b"123456"  # of emulated cards only
OFF: Final = "off"


class Wire(Protocol):
    """A reader's slot."""

    def insert(self, card: VirtualCard) -> None: ...
    def remove(self) -> None: ...
    def close(self) -> None: ...


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
    return with_fault(card, plan.fault, report), sensor


class Emulator:
    """Obeys command lines and reports events, one per line. It never writes a PIN."""

    def __init__(self, wire: Wire, card: VirtualCard, sensor: Touchable, report: Report) -> None:
        self._wire = wire
        self._counted = CountedCard(card)
        self._card = CutCard(self._counted, report)
        self._sensor = sensor
        self._report = report
        self._inside = False

    def run(self, lines: Iterable[str]) -> None:
        """Obey until `quit` or the end of input; the card is then pulled."""
        self._report("ready")
        try:
            for line in lines:
                word, _, argument = line.strip().partition(" ")
                if word == "quit":
                    return
                self._obey(word, argument)
        finally:
            self._remove()

    def _obey(self, word: str, argument: str) -> None:
        if word == "insert":
            self._insert()
        elif word == "remove":
            self._remove()
        elif word == "touch" and argument:
            if not self._sensor.touch(argument):
                self._report("sensor off")
        elif word == "auto" and argument:
            self._sensor.rest(None if argument == OFF else argument)
        elif word == "count":
            self._report("count apdus={} bytes={}".format(*self._counted.take()))
        elif word == "cut" and (argument == OFF or argument.isdecimal()):
            self._card.cut(None if argument == OFF else int(argument))
        elif word:
            self._report("unknown command")

    def _insert(self) -> None:
        if not self._inside:
            self._wire.insert(self._card)
            self._inside = True
            self._report("card in")

    def _remove(self) -> None:
        if self._inside:
            self._wire.remove()
            self._inside = False
            self._report("card out")
