"""The box's screen in a window: the real viewer on a real X server, both of the tools tree; no disk in the machine."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdbox.bench.commands import help_text, run_prompt
from sdbox.bench.hands import Hands
from sdbox.bench.timeline import Timeline
from sdbox.bench.window import WindowError, powered
from sdbox.host.pki import ensure_development_pki
from sdbox.qemu.card import CardProcess, CardSpec
from sdbox.qemu.deadline import wait_for
from sdbox.qemu.machine import Machine
from sdbox.qemu.spec import MachineSpec, Reader
from tests.service.xserver import XServer, on_display, x_server

pytestmark = pytest.mark.root
SDBOX = Path(sys.executable).with_name("sdbox")
NO_DISPLAY = ":4711"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[XServer]:
    with x_server(tmp_path / "x") as server:
        yield server


def spec(work: Path) -> MachineSpec:
    return MachineSpec(work=work, uuid=uuid.uuid4(), reader=Reader.NONE, memory=64, width=640, height=400)


def test_the_box_s_screen_is_on_the_display_until_the_end(server: XServer, tmp_path: Path) -> None:
    assert server.picture().getextrema() == ((0, 0), (0, 0), (0, 0))
    with on_display(server), powered(spec(tmp_path / "m"), window=True) as machine:
        wait_for(lambda: server.picture().getbbox() is not None, "a window on the display", 15)
        machine.check()
    wait_for(lambda: server.picture().getbbox() is None, "the window to go", 5)


def test_a_display_that_is_not_there_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", NO_DISPLAY)
    with pytest.raises(WindowError, match=NO_DISPLAY) as told, powered(spec(tmp_path / "m"), window=True):
        pass
    assert "\n" not in str(told.value)
    assert "display" in str(told.value).lower()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--window",), "DISPLAY is not set"),
        (("--variant", "no-such-card"), "softhsm"),
        (("--script", "bad.txt"), "bad.txt, line 3: unknown command 'isnert'; did you mean 'insert'?"),
        (("--script", "empty.txt"), "no command"),
        (("--script", "absent.txt"), "absent.txt"),
    ],
)
def test_bad_input_ends_at_once_with_what_to_do(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    (tmp_path / "bad.txt").write_text("# by hand\n\nisnert\n")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    env = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [SDBOX, "run", *options], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_the_prompt_tells_what_it_can_not_do_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pki, box = ensure_development_pki(tmp_path / "pki"), dataclasses.replace(spec(tmp_path / "m"), reader=Reader.USB)
    card = CardSpec("piv", ("atlas",), pki.certificate("card-ca"), pki.key("card-ca"))
    with Machine(box) as machine, CardProcess(card, box, tmp_path) as process:

        def typed() -> Iterator[str]:
            yield from ("", "isnert", "pin 1é", "picture firmware", "key esc")
            machine.power_cut()
            yield from ("key esc", "help", "quit")
            raise AssertionError("asked again after `quit`")

        words = typed()
        hands = Hands(machine, process, Timeline(), tmp_path / "pictures")
        assert run_prompt(hands, lambda: next(words)) == ()
    told = capsys.readouterr().err
    for each in ("did you mean 'insert'?", "no key for this character", "pressed esc", "the machine is off"):
        assert told.count(each) == 1
    assert told.count(help_text()) == 2, "at the beginning, and when asked for"
    assert told.endswith("power off\n")
    assert (tmp_path / "pictures" / "firmware.png").is_file()
