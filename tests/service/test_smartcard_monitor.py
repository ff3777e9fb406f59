"""Reader events through real pcscd: hot-plug, a restart of pcscd, and `sdbox card show`."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Iterator

import pytest

from sdbox.bench.card_emulated import POLLED, emulated_card
from sdbox.bench.card_reader import Pcscd, running_pcscd
from sdbox.smartcard.monitor import CardMonitor
from sdbox.smartcard.pcsc import reset_card
from sdbox.smartcard.values import CardEvent, CardInserted, CardRemoved
from sdbox.smartcard.variants import variant_named
from tests.service.smartcard_bench import run

pytestmark = pytest.mark.root
READER = "Virtual PCD 00 00"


@pytest.fixture
def pcscd() -> Iterator[Pcscd]:
    with running_pcscd() as service:
        yield service


def test_no_insertion_or_removal_is_lost(pcscd: Pcscd) -> None:
    events: queue.SimpleQueue[CardEvent] = queue.SimpleQueue()
    with emulated_card(pcscd, "piv") as card, CardMonitor(events.put):
        for _ in range(10):
            card.insert()
            inserted = events.get(timeout=5)
            assert isinstance(inserted, CardInserted)
            assert inserted.atr == atr_of("piv")
            card.remove()
            assert events.get(timeout=5) == CardRemoved(READER)
        assert events.empty()


def test_a_swap_that_pcscd_itself_did_not_notice_is_reported(pcscd: Pcscd) -> None:
    """As quick as no hand is; who talked to the first card then goes on with the second, by a reset."""
    events: queue.SimpleQueue[CardEvent] = queue.SimpleQueue()
    with emulated_card(pcscd, "piv", options=["--other", "sc-hsm-bio:atlas"]) as card, CardMonitor(events.put):
        card.insert()
        assert events.get(timeout=5) == CardInserted(READER, atr_of("piv"))
        time.sleep(POLLED)  # vpcd's own trap is another one, see `EmulatedCard.insert`
        card.tell("swap")
        card.expect("card in")
        reset_card(READER)
        assert events.get(timeout=5) == CardRemoved(READER)
        assert events.get(timeout=5) == CardInserted(READER, atr_of("sc-hsm-bio"))


def test_a_card_that_is_in_at_the_start_is_reported(pcscd: Pcscd) -> None:
    events: queue.SimpleQueue[CardEvent] = queue.SimpleQueue()
    with emulated_card(pcscd, "sc-hsm-bio") as card:
        card.insert()
        with CardMonitor(events.put):
            assert isinstance(events.get(timeout=5), CardInserted)


def test_pcscd_may_restart(pcscd: Pcscd) -> None:
    """Its death is the removal of every card; the next insertion is noticed."""
    events: queue.SimpleQueue[CardEvent] = queue.SimpleQueue()
    with CardMonitor(events.put):
        with emulated_card(pcscd, "piv") as card:
            card.insert()
            assert isinstance(events.get(timeout=5), CardInserted)
            pcscd.restart()
            assert events.get(timeout=5) == CardRemoved(READER)
        with emulated_card(pcscd, "sc-hsm-bio") as card:
            card.insert()
            inserted = events.get(timeout=10)
            assert isinstance(inserted, CardInserted)
            assert inserted.atr == atr_of("sc-hsm-bio")


def test_what_nobody_expected_is_told_and_counts_as_removal(pcscd: Pcscd) -> None:
    """Else a dead monitor would look like a card that is never pulled."""
    events: queue.SimpleQueue[CardEvent] = queue.SimpleQueue()
    deaths: queue.SimpleQueue[Exception] = queue.SimpleQueue()
    failures = [ZeroDivisionError()]

    def note(event: CardEvent) -> None:
        if isinstance(event, CardRemoved) and failures:
            raise failures.pop()
        events.put(event)

    with emulated_card(pcscd, "piv") as card, CardMonitor(note, deaths.put):
        card.insert()
        assert isinstance(events.get(timeout=5), CardInserted)
        card.remove()
        assert isinstance(deaths.get(timeout=5), ZeroDivisionError)
        assert events.get(timeout=5) == CardRemoved(READER)


def test_two_readers_are_told_apart(pcscd: Pcscd) -> None:
    events: queue.SimpleQueue[CardEvent] = queue.SimpleQueue()
    with emulated_card(pcscd, "piv") as one, emulated_card(pcscd, "sc-hsm-bio", slot=1) as two, CardMonitor(events.put):
        one.insert()
        assert events.get(timeout=5) == CardInserted(READER, atr_of("piv"))
        two.insert()
        assert events.get(timeout=5) == CardInserted("Virtual PCD 00 01", atr_of("sc-hsm-bio"))
        one.remove()
        assert events.get(timeout=5) == CardRemoved(READER)


def atr_of(name: str) -> bytes:
    return bytes.fromhex(variant_named(name).atrs[0].value)


def test_show_says_what_a_box_sees(pcscd: Pcscd) -> None:
    with emulated_card(pcscd, "sc-hsm-bio", ("atlas", "boreal")) as card:
        card.insert()
        command = (sys.executable, "-m", "sdbox.smartcard.cli", "show", "--json")
        seen = json.loads(run(*command).stdout)
        assert (seen["variant"], seen["tries"], seen["blocked"]) == ("sc-hsm-bio", 3, False)
        assert card.verifies == 0
        card.tell("auto good")
        seen = json.loads(run(*command, "--login").stdout)
        assert [(one["project"], one["fault"]) for one in seen["containers"]] == [("atlas", None), ("boreal", None)]


def test_show_without_a_card_is_refused_in_one_line(pcscd: Pcscd) -> None:
    done = run(sys.executable, "-m", "sdbox.smartcard.cli", "show", "--wait", "0.5", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
