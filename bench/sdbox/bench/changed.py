"""A changed box, powered on: what its screen shows and what the gateway's record says of it."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sdbox.bench.changes import Change
from sdbox.bench.hands import BOOT_SECONDS, Hands, Unexpected
from sdbox.bench.lab import Lab
from sdbox.bench.lab_gateway import EnrolmentFailed
from sdbox.bench.stand import BOX, Card, card_near, development_tpm, machine_spec
from sdbox.bench.timeline import Timeline
from sdbox.image.request import BuiltImage
from sdbox.qemu.machine import Machine
from sdbox.qemu.tpm import copy_state

# A box that waits for its network shows gateway-unreachable meanwhile; what it is refused for comes later.
JUDGED = r"sdbox-refused (?!gateway-unreachable)\S+|sdbox-phase attested"
AGENT = "sdbox-phase agent-start"
OWN_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`screen`: the code shown, empty for "insert card". `record`: the checks that the gateway's record names."""

    screen: str
    record: tuple[str, ...]

    def fits(self, change: Change) -> bool:
        """Whether this is what must come of `change`."""
        return self.screen == change.code and set(self.record) == set(change.checks)


def power_on(lab: Lab, image: BuiltImage, change: Change, work: Path, pictures: Path) -> Outcome:
    """Boot the bench's box with `change` and tell what came of it. Overdue if the box never says anything."""
    work.mkdir(parents=True, exist_ok=True)
    with suppress(EnrolmentFailed):  # it has not passed yet
        lab.gateway.admin("forget-clock", "--box-id", str(BOX))  # each of its TPMs is a copy of one
    spec = machine_spec(change.make(image, work), lab, work / "m", copy_state(development_tpm(), work / "tpm"))
    before = len(lab.gateway.events())
    with Machine(dataclasses.replace(spec, microcode=change.microcode)) as machine, card_near(machine, Card()) as card:
        hands = Hands(machine, card, Timeline(), pictures)
        if change.cut:
            hands.wait_ready()
            machine.power_cut()
            before = len(lab.gateway.events())
            machine.start()
            hands = Hands(machine, card, Timeline(), pictures)
        screen = _watch(hands) if change.is_proved else _watch_initrd(hands)
    return Outcome(screen, _checks(lab, before))


def _watch(hands: Hands) -> str:
    hands.machine.console.wait(JUDGED, BOOT_SECONDS)
    seen = hands.see(["insert-card", "refused"], picture="changed")
    if seen == "refused" and hands.last_code() == "gateway-unreachable":  # let in, and about to say so
        hands.wait_back()
        return ""
    return hands.last_code() if seen == "refused" else ""


def _watch_initrd(hands: Hands) -> str:
    """The code is on the serial console: there is no display driver yet, and virtio-gpu has no plain framebuffer."""
    code = hands.machine.console.wait_refused(OWN_SECONDS)
    if AGENT in hands.machine.console.text():
        raise Unexpected("the agent started although the initrd had refused")
    return code


def _checks(lab: Lab, before: int) -> tuple[str, ...]:
    details = [event.get("detail", "") for event in lab.gateway.events()[before:] if event["event"] == "refused"]
    return checks_of(details[-1]) if details else ()


def checks_of(detail: str) -> tuple[str, ...]:
    """Return the checks that a detail of the record names; what was measured follows them in brackets."""
    return tuple(word for word in detail.split() if not word.startswith("("))
