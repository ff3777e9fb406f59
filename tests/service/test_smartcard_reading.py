"""How often a card is asked: certificates once per insertion, first what the screen needs, nothing read at a switch.

The counts are upper bounds, with this host's OpenSC: whoever lowers them lowers them here. A certificate of ours takes
a command or two, and so does its key's description.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sdbox.bench.bench_card import COMPRESSED, commands, projects
from sdbox.bench.card_emulated import emulated_card
from sdbox.bench.card_reader import READER, Pcscd, running_pcscd, sees_card, wait_for
from sdbox.bench.card_visit import Visit, times_read, visit
from sdbox.smartcard.filecache import MEMORY, PREFIX, VARIABLE, file_cache
from sdbox.smartcard.glimpse import glimpse
from sdbox.smartcard.values import LoginMethod, LoginStatus
from sdbox.smartcard.variants import variant_named

pytestmark = pytest.mark.root
MOST = {  # to the first answer, from there to "ready to sign", at a switch; with three containers, or as many as fit
    "gids": (4, 29, 2),
    "ias-ecc": (2, 42, 4),
    "isoapplet": (4, 31, 3),
    "myeid": (2, 30, 3),
    "openpgp": (2, 20, 1),
    "piv": (2, 33, 1),
    "piv-occ": (5, 11, 1),
    "sc-hsm-bio": (35, 2, 1),
}
TWICE = {"openpgp": 2}  # OpenSC asks for data object 7F21, and then for its first occurrence
NOBODY = 65534
EACH_MORE = {"piv": 3, "piv-occ": 2, "sc-hsm-bio": 7}  # commands for each further container, over the whole insertion


@pytest.fixture
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


def visited(pcscd: Pcscd, variant: str, size: int) -> Visit:
    with emulated_card(pcscd, variant, projects(size)) as card:
        return visit(card, 1)


def asked(seen: Visit) -> tuple[int, ...]:
    return tuple(commands(tape) for tape in (seen.first_tape, seen.login_tape, seen.sign_tape))


def reads(seen: Visit) -> set[int]:
    """Return how often certificates were read."""
    tape = (*seen.first_tape, *seen.login_tape, *seen.sign_tape)
    return {times_read(tape, container.certificate) for container in seen.identity.containers}


@pytest.mark.parametrize("variant", MOST)
def test_a_card_is_asked_no_more_than_it_was(pcscd: Pcscd, variant: str) -> None:
    seen = visited(pcscd, variant, min(3, variant_named(variant).containers))
    assert all(now <= most for now, most in zip(asked(seen), MOST[variant], strict=True)), asked(seen)
    if variant not in COMPRESSED:  # else they can't be found among the answers
        assert max(reads(seen)) == TWICE.get(variant, 1)


@pytest.mark.parametrize("variant", EACH_MORE)
def test_twenty_containers_are_read_once_each(pcscd: Pcscd, variant: str) -> None:
    seen, few = visited(pcscd, variant, 20), MOST[variant]
    assert len(seen.identity.containers) == 20
    assert reads(seen) == {1}
    assert sum(asked(seen)) <= sum(few) + 17 * EACH_MORE[variant], asked(seen)
    assert commands(seen.sign_tape) <= few[2], "a switch reads nothing, however full the card is"


def test_nothing_of_a_card_is_left_in_memory(pcscd: Pcscd) -> None:
    """OpenSC's cache is there while it opens the card only; what a killed worker left goes with the next one."""
    left = MEMORY / f"{PREFIX}{2**22}"  # no process has that number
    left.mkdir()
    visited(pcscd, "sc-hsm-bio", 1)
    assert list(MEMORY.glob(f"{PREFIX}*")) == []


def test_a_folder_that_somebody_else_made_is_not_used() -> None:
    """What a module reads from its cache it believes as it would the card."""
    folder = MEMORY / f"{PREFIX}{os.getpid()}"
    folder.mkdir()
    try:
        os.chown(folder, NOBODY, NOBODY)
        with file_cache():
            assert VARIABLE not in os.environ
        os.chown(folder, 0, 0)
        with file_cache():
            assert os.environ[VARIABLE] == str(folder)
            (folder / "opensc").mkdir()
            (folder / "opensc" / "file").touch()
        assert VARIABLE not in os.environ
        assert not folder.exists()
    finally:
        if folder.exists():
            folder.rmdir()


def test_the_screen_can_ask_for_a_pin_before_any_certificate_is_read(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "piv", projects(20)) as card:
        card.insert()
        wait_for(sees_card, "PC/SC to see the card")
        card.tape()
        assert glimpse(variant_named("piv"), READER) == LoginStatus(LoginMethod.PIN, 3, final_try=False, blocked=False)
        assert commands(card.tape()) == 2


def test_a_card_with_a_finger_gets_no_first_look(pcscd: Pcscd) -> None:
    """Its sensor is off until the module asks for it: the screen must not ask for a finger before."""
    assert glimpse(variant_named("sc-hsm-bio"), READER) is None
