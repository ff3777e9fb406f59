"""Measures cards on this host: insertion to "ready to sign", signatures, and how often a card is asked.

Each emulated card is met as the box meets it (monitor, recognition, worker, pcscd, module); then the same commands, as
the card has taped them, are sent to it again over bare PC/SC: what is above that is ours, the module's and pcscd's.
Variants that this host's modules can't use are met with the box's own, in a child.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from sdbox.bench.bench_way import Row
from sdbox.bench.card_emulated import EmulatedCard, emulated_card
from sdbox.bench.card_places import stack_named
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.bench.card_stack import PCSC_LIBRARIES, Stack, box_libraries, host_stack
from sdbox.bench.card_visit import Visit, times_read, visit, visit_token
from sdbox.bench.softtoken import PIN, make_token
from sdbox.host.workfolder import work_prefix
from sdbox.smartcard.card_process import OPENSC_CONF
from sdbox.smartcard.pcsc import CardLine
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import Backend, Variant, variant_named
from sdbox.smartcard.virtual.models import MODELS
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from sdbox.smartcard.virtual.tape import Taped

NOT_HERE: Final = {"goid", "yubikey-bio"}  # Debian 12's OpenSC has no OpenPACE, its ykcs11 knows no finger
ONCE: Final = {"goid"}  # its commands can't be sent again: each session has keys of its own
COMPRESSED: Final = {"gids"}  # keeps certificates deflated: they can't be found on the tape
INSERTIONS: Final = 5
SIGNATURES: Final = 30
FILLED: Final = (1, 3, 20)
USUAL: Final = 3
DIRECT: Final = Path(__file__).with_name("card_direct.py")
CHILD_SECONDS: Final = 60.0
VARIANT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Raw:
    """Seconds that the commands of a visit take by themselves."""

    ready: float
    sign: float


def measure_card(_output: Path) -> list[Row]:
    """Return the rows of all variants. Needs root."""
    if os.geteuid() != 0:
        raise RuntimeError("`bench card` runs a pcscd in a network namespace of its own: needs root")
    rows: list[Row] = []
    for name in sorted(MODELS):
        print(f"card {name}", file=sys.stderr)
        rows += rows_in_the_box(name) if name in NOT_HERE else rows_at(host_stack(), name)
    with tempfile.TemporaryDirectory(prefix=work_prefix("bench")) as folder:
        return [*rows, *token_rows(Path(folder))]


def rows_at(stack: Stack, name: str) -> list[Row]:
    """Return the rows of one variant, met with the software of `stack`."""
    with running_pcscd(stack) as pcscd:
        return list(card_rows(pcscd, variant_named(name)))


def rows_in_the_box(name: str) -> list[Row]:
    """Return the rows of a variant with the box's software, measured in a child that has the box's PC/SC library.

    The box's pcscd does not speak to this host's library. The box's runs here: it only needs the C library.
    """
    with tempfile.TemporaryDirectory(prefix=work_prefix("bench")) as folder:
        for library in box_libraries(PCSC_LIBRARIES):
            (Path(folder) / library.name).symlink_to(library)
        command = [sys.executable, "-m", "sdbox.bench.bench_card", name]
        env = {**os.environ, "LD_LIBRARY_PATH": folder}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, timeout=VARIANT_SECONDS, check=True)
    return msgspec.json.decode(done.stdout, type=list[Row])


def card_rows(pcscd: Pcscd, variant: Variant) -> Iterator[Row]:
    """Yield the rows of one variant: times with three containers, counts with one, three and twenty."""
    sizes = sorted({min(size, variant.containers) for size in FILLED})
    usual = min(USUAL, variant.containers)
    counts: list[Row] = []
    for size in sizes:
        with emulated_card(pcscd, variant.name, projects(size)) as card:
            visits = [visit(card, SIGNATURES, pcscd.stack.python) for _ in range(INSERTIONS if size == usual else 1)]
            if size == usual:
                raws = [] if variant.name in ONCE else [replay(card, one) for one in visits]
                direct = module_alone(card, variant, pcscd.stack.python)
        if size == usual:
            yield from times(variant, visits, raws, direct)
        counts += count_rows(variant, size, visits[-1])
    yield from counts


def projects(size: int) -> list[str]:
    """Return so many names."""
    return [f"p{index:02}" for index in range(size)]


def times(variant: Variant, visits: Sequence[Visit], raws: Sequence[Raw], direct: float | None) -> Iterator[Row]:
    """Yield what an insertion and a signature take beside their commands alone; medians."""
    ready = statistics.median(one.ready for one in visits)
    signed = statistics.median(second for one in visits for second in one.signed[1:])
    for what, seconds, raw in (
        ("card seen to ready to sign", ready, [one.ready for one in raws]),
        ("a signature by the worker", signed, [one.sign for one in raws]),
    ):
        beside = statistics.median(raw) if raw else None
        yield Row(f"{variant.name}: {what}", seconds, "its commands alone, over PC/SC" if raw else "", beside)
    if direct is not None:
        yield Row(f"{variant.name}: a signature by the worker", signed, "by the module alone, one process", direct)


def commands(tape: Sequence[Taped]) -> int:
    """Return how many commands are on a tape."""
    return sum(bool(taped.command) for taped in tape)


def count_rows(variant: Variant, size: int, seen: Visit) -> Iterator[Row]:
    """Yield how often the card was asked."""
    what = f"{variant.name} with {size}: commands"
    yield Row(f"{what} to the first answer", commands(seen.first_tape))
    yield Row(f"{what} from there to ready to sign", commands(seen.login_tape))
    yield Row(f"{what} at a switch", commands(seen.sign_tape))
    if variant.name not in COMPRESSED:
        tape = (*seen.first_tape, *seen.login_tape)
        often = max(times_read(tape, one.certificate) for one in seen.identity.containers)
        yield Row(f"{variant.name} with {size}: times a certificate was read", often)


def replay(card: EmulatedCard, seen: Visit) -> Raw:
    """Send the commands of a visit again, with its resets. RuntimeError if the card says something else to one."""
    card.insert()
    card.tell("auto good")
    wait_for(sees_card, "PC/SC to see the card")
    try:
        with _Line() as line:
            ready = line.send((*seen.first_tape, *seen.login_tape))
            return Raw(ready, statistics.median(line.send(seen.sign_tape) for _ in range(SIGNATURES)))
    finally:
        card.remove()


class _Line:
    """A connection to the card that is opened anew where the tape has a reset, which takes no time here."""

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        self._line.close()

    def _open(self) -> None:
        self._line, self._used = CardLine(READER), False
        self._line.begin()

    def send(self, tape: Sequence[Taped]) -> float:
        """Return the seconds that the commands take."""
        total = 0.0
        for taped in tape:
            if not taped.command:
                if self._used:
                    self._line.close()
                    self._open()
                continue
            start = time.perf_counter()
            answer = self._line.transmit(taped.command)
            total, self._used = total + time.perf_counter() - start, True
            if answer[-2:] != taped.answer[-2:]:
                raise RuntimeError(f"replayed, {taped.command[:4].hex()} is answered by {answer[-2:].hex()}")
        return total


def module_alone(card: EmulatedCard, variant: Variant, python: Sequence[str]) -> float | None:
    """Return the median seconds of a signature by the variant's module; None if no module does it."""
    if variant.backend is not Backend.PKCS11:
        return None
    card.insert()
    card.tell("auto good")
    wait_for(sees_card, "PC/SC to see the card")
    try:
        return _module_alone(variant, READER, python)
    finally:
        card.remove()


def _module_alone(variant: Variant, reader: str, python: Sequence[str] = (sys.executable,)) -> float:
    command = [*python, str(DIRECT), variant.name, reader, str(SIGNATURES)]
    driver = variant.module.driver if variant.module else None
    env = os.environ | {"OPENSC_CONF": str(OPENSC_CONF)} | ({"OPENSC_DRIVER": driver} if driver else {})
    pin = "" if variant.login.method is LoginMethod.FINGER else PIN
    line = f"{pin}\n".encode()
    done = subprocess.run(command, input=line, env=env, stdout=subprocess.PIPE, timeout=CHILD_SECONDS, check=True)
    taken: list[float] = json.loads(done.stdout)
    return statistics.median(taken[1:])


def token_rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of SoftHSM's token: no reader, no commands."""
    variant = variant_named("softhsm")
    filled = fill_containers([Project(name) for name in projects(USUAL)], Issuer.create())
    os.environ["SOFTHSM2_CONF"] = str(make_token(variant, filled, folder))
    ready, signed = visit_token(variant, SIGNATURES)
    yield Row("softhsm: worker started to ready to sign", ready)
    alone = _module_alone(variant, "")
    yield Row(
        "softhsm: a signature by the worker", statistics.median(signed[1:]), "by the module alone, one process", alone
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(rows_at(stack_named("box"), sys.argv[1])))
