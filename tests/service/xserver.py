"""An X server in memory, from the tools tree, whose picture a test can look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sdbox.bench.lab_client import read_frame
from sdbox.host.tools import tools_command
from sdbox.qemu.child import Child


@dataclass(frozen=True, slots=True)
class XServer:
    """`display` is for DISPLAY; found by its abstract socket (unix(7)), so that no file of it is shared."""

    display: str
    frame: Path

    def picture(self) -> Image.Image:
        """Return what is on its screen."""
        return read_frame(self.frame)


@contextmanager
def x_server(work: Path, size: tuple[int, int] = (1300, 820)) -> Iterator[XServer]:
    """Run an X server on a free display; its files are in the new folder `work`."""
    work.mkdir()
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{size[0]}x{size[1]}x24", "-noreset", "-fbdir", str(work)]
    with Child("Xvfb", tools_command(command, binds=[work]), work / "xvfb.log", pipes=True) as child:
        if child.process.stdout is None:
            raise ValueError("no pipe")
        number = child.process.stdout.readline().decode().strip()
        child.check()
        yield XServer(f":{number}", work / "Xvfb_screen0")


@contextmanager
def on_display(server: XServer) -> Iterator[None]:
    """Let programs started in this block find the server."""
    before = os.environ.get("DISPLAY")
    os.environ["DISPLAY"] = server.display
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISPLAY"]
        else:
            os.environ["DISPLAY"] = before
