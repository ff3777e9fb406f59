"""The serial console: lines, phases and refusals as they grow in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.qemu.console import BoxRefused, Console
from sdbox.qemu.deadline import Overdue


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    console = Console(tmp_path / "console.log")
    console.start()
    yield console
    console.stop()


def write(console: Console, text: str) -> None:
    with console.path.open("a") as file:
        file.write(text)


def test_phases_are_read_from_lines_with_a_prefix(console: Console) -> None:
    write(console, "[    4.1] sdbox-agent[212]: sdbox-phase agent-start 4.125\r\n")
    phase = console.wait_phase("agent-start", 2)
    assert (phase.name, phase.seconds) == ("agent-start", 4.125)


def test_a_line_that_is_not_finished_does_not_count(console: Console) -> None:
    write(console, "sdbox-phase tls 5.1")
    with pytest.raises(Overdue, match="sdbox-phase tls"):
        console.wait_phase("tls", 0.1)
    write(console, "29\n")
    assert console.wait_phase("tls", 2).seconds == 5.129


def test_a_mark_leaves_earlier_lines_out(console: Console) -> None:
    write(console, "sdbox-state insert-card\n")
    console.wait_state("insert-card", 2)
    mark = console.mark()
    with pytest.raises(Overdue):
        console.wait_state("insert-card", 0.1, since=mark)
    assert console.states() == ["insert-card"]


def test_a_refusal_ends_the_wait_for_a_success_at_once(console: Console) -> None:
    write(console, "sdbox-refused box-image\n")
    with pytest.raises(BoxRefused) as caught:
        console.wait_phase("attested", 30)
    assert caught.value.code == "box-image"
    assert console.wait_refused(1) == "box-image"


def test_a_wait_ends_when_the_machine_is_gone(tmp_path: Path) -> None:
    def gone() -> None:
        raise RuntimeError("machine is gone")

    with pytest.raises(RuntimeError, match="machine is gone"):
        Console(tmp_path / "none.log", gone).wait("anything", 30)


def test_a_late_wait_shows_the_console_s_end(console: Console) -> None:
    write(console, "Kernel panic - not syncing\n")
    with pytest.raises(Overdue, match="Kernel panic"):
        console.wait("never", 0.2)
