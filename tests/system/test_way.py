"""The main job as people start it: `sdbox run`, with its window, steps from a file, timeline and exit code.

Both desktops and the lock screen are seen on the box's screen by the command itself; here the window is looked at too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sdbox.bench.bubble import ATLAS, BOREAL
from sdbox.qemu.child import Child
from sdbox.qemu.deadline import wait_for
from sdbox.qemu.screen import shows_mostly
from tests.service.xserver import XServer, x_server

pytestmark = [pytest.mark.system, pytest.mark.root]
STEPS = """\
insert
picture finger    # the box waits for it
finger
picture pick
pick atlas
switch boreal
picture desktop-boreal
switch atlas      # a window's picture may lag: it has four desktops to show
switch boreal
remove
"""
PHASES = ("agent-start", "tls", "attested", "card-in", "verified", "offers", "grant", "handshake", "wiped")


@pytest.mark.usefixtures("image")
def test_from_power_on_to_the_locked_screen(pictures: Path, tmp_path: Path) -> None:
    steps, output = tmp_path / "steps.txt", pictures / "way"
    steps.write_text(STEPS)
    command = [str(Path(sys.executable).with_name("sdbox")), "run", "--window", "--script", str(steps)]
    command += ["--output", str(output), "--json"]
    log = tmp_path / "run.log"
    with x_server(tmp_path / "x") as server:
        env = {"DISPLAY": server.display}
        with Child("sdbox run", command, log, env=env, pipes=True) as run:
            see_in_window(server, run)
            answer = run.process.stdout.read() if run.process.stdout else b""
            assert run.wait(60) == 0, run.log_tail()
    told = json.loads(answer)
    assert told["seen"] == ["insert-card", "finger", "pick", *["desktop:atlas", "desktop:boreal"] * 2, "insert-card"]
    assert told["peers_left"] == 0
    assert told["disk_bytes_written"] == 0  # S9: nothing of the work rests on the box
    names = [mark["name"] for mark in told["marks"] if mark["source"] == "box"]
    for phase in PHASES:
        assert phase in names, f"{phase} is not on the timeline: {names}"
    assert "line 10: remove -> insert-card" in log.read_text()
    assert "screen: desktop:boreal" in (output / "timeline.svg").read_text()


@pytest.mark.usefixtures("image")
def test_by_hand_in_the_window(pictures: Path, tmp_path: Path) -> None:
    """A second run finds everything made; what is typed at the prompt ends in a timeline as any other run does."""
    output, log = pictures / "by-hand", tmp_path / "run.log"
    command = [str(Path(sys.executable).with_name("sdbox")), "run", "--window", "--output", str(output), "--json"]
    with (
        x_server(tmp_path / "x") as server,
        Child("sdbox run", command, log, env={"DISPLAY": server.display}, pipes=True) as run,
    ):
        answer = run.process.communicate(b"isnert\ninsert\npicture typed\nremove\nquit\n", timeout=420)[0]
        assert run.wait(10) == 0, run.log_tail()
    told = json.loads(answer)
    assert told["seen"] == ["insert-card", "finger", "insert-card"]
    assert "did you mean 'insert'?" in log.read_text()
    assert "card removed" in log.read_text()
    assert (output / "typed.png").is_file()
    assert "screen: finger" in (output / "timeline.svg").read_text()


def see_in_window(server: XServer, run: Child) -> None:
    """Wait until a desktop is on the display that the window is on."""
    desktops = [shows_mostly(bubble.colour) for bubble in (ATLAS, BOREAL)]

    def shown() -> bool:
        run.check()
        picture = server.picture()
        return any(shows(picture) for shows in desktops)

    wait_for(shown, "a desktop in the window", 300, interval=0.1)
