"""A bare client: xfreerdp3 through a WireGuard tunnel to a bubble, without a box, card or gateway.

It shows that the centre's half works by itself, and its connect time is what the switch is measured against.
"""

from __future__ import annotations

import os
import secrets
import struct
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image

from sdbox.bench.bubble import DESKTOP_PORT, DISPLAY, SIZE, Bubble, control_command
from sdbox.bench.lab_wireguard import KeyPair, configure
from sdbox.bench.network import Network, ip
from sdbox.host.tools import tools_command
from sdbox.qemu.child import Child
from sdbox.qemu.deadline import wait_for
from sdbox.qemu.screen import shows_mostly

CLIENT_ADDRESS = "198.51.100.30"
INTERFACE = "wgclient"
USER = "bench"


class BareClient:
    """Context manager: a host on the campus with a tunnel to one bubble and a screen of its own.

    It takes the bubble's tunnel over: no gateway may use the bubble meanwhile.
    """

    def __init__(self, network: Network, bubble: Bubble, work: Path) -> None:
        self._network = network
        self._bubble = bubble
        self._work = work / "client"
        self.namespace = ""  # once entered
        self._keys = KeyPair.make()
        self._secret = secrets.token_hex(16)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._work.mkdir()
        with ExitStack() as stack:
            self.namespace = self._network.add_host("client", f"{CLIENT_ADDRESS}/24")
            self._open_tunnel(stack)
            argv = ["Xvfb", DISPLAY, "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-noreset", "-fbdir", str(self._work)]
            stack.enter_context(self._child("client's Xvfb", argv))
            wait_for(self._frame.exists, "the client's screen", 15)
            self.admit()
            self._stack = stack.pop_all()
        return self

    @property
    def _frame(self) -> Path:
        return self._work / "Xvfb_screen0"

    def _open_tunnel(self, stack: ExitStack) -> None:
        control = self._work / "wireguard"
        control.mkdir()
        command = control_command(["wireguard-go", "-f", INTERFACE], control)
        log = self._work / "wireguard.log"
        stack.enter_context(Child("client's wireguard-go", command, log, netns=self.namespace))
        wait_for(self._control.is_socket, "the client's tunnel program", 10)
        ip("-n", self.namespace, "address", "add", f"{self._address}/24", "dev", INTERFACE)
        ip("-n", self.namespace, "link", "set", INTERFACE, "mtu", "1380", "up")
        self.join()

    @property
    def _control(self) -> Path:
        return self._work / "wireguard" / f"{INTERFACE}.sock"

    @property
    def _address(self) -> str:
        return f"10.64.{self._bubble.spec.number}.99"

    def join(self) -> None:
        """Become the bubble's only peer, with a fresh key of the bubble's."""
        theirs, spec = KeyPair.make(), self._bubble.spec
        centre = [("private_key", theirs.private.hex()), ("listen_port", str(spec.tunnel_port))]
        centre += [("replace_peers", "true"), ("public_key", self._keys.public.hex())]
        configure(self._bubble.control_socket, [*centre, ("allowed_ip", f"{self._address}/32")])
        own = [
            ("private_key", self._keys.private.hex()),
            ("replace_peers", "true"),
            ("public_key", theirs.public.hex()),
        ]
        configure(self._control, [*own, ("endpoint", spec.endpoint), ("allowed_ip", spec.network)])

    def admit(self) -> None:
        """Become the only user of the bubble's RDP server."""
        write_user(self._bubble.sam_file, USER, self._secret)

    def connect(self, seconds: float = 20.0, *, fingerprint: str = "") -> tuple[float, Image.Image]:
        """Connect once and hang up; returns the seconds from the client's start to the bubble's picture, and that.

        `fingerprint`: what to pin instead of the server's own. ChildFailed with the client's words if it gives up.
        """
        command = ["xfreerdp3", "/args-from:stdin"]  # a secret in the arguments would be seen by every user
        display = f"/size:{SIZE[0]}x{SIZE[1]}"
        arguments = [f"/v:{self._bubble.spec.server}:{DESKTOP_PORT}", f"/u:{USER}", f"/p:{self._secret}", display]
        arguments += [
            f"/cert:deny,fingerprint:sha256:{fingerprint or self._bubble.fingerprint}",
            "-clipboard",
            "/log-level:WARN",
        ]
        started = time.monotonic()
        with self._child("xfreerdp3", command, pipes=True) as child:
            child.send("\n".join(arguments) + "\n", close=True)

            def arrived() -> Image.Image | None:
                child.check()
                image = read_frame(self._frame)
                return image if shows_mostly(self._bubble.spec.colour)(image) else None

            image = wait_for(arrived, f"the desktop of {self._bubble.spec.project}", seconds, interval=0.005)
            return time.monotonic() - started, image

    def blank(self, seconds: float = 5.0) -> None:
        """Wait until nothing of the bubble is on the client's screen any more."""
        shows = shows_mostly(self._bubble.spec.colour, share=0.01)
        wait_for(lambda: not shows(read_frame(self._frame)), "the client's screen to be empty", seconds)

    def _child(self, name: str, argv: list[str], *, pipes: bool = False) -> Child:
        env = {"DISPLAY": DISPLAY, "HOME": str(self._work)}
        log = self._work / f"{argv[0]}.log"
        return Child(name, tools_command(argv, binds=[self._work]), log, netns=self.namespace, env=env, pipes=pipes)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def write_user(sam_file: Path, user: str, secret: str) -> None:
    """Make `user` the only one of a bubble's RDP server. The secret is in winpr-hash3's arguments: bench only."""
    done = subprocess.run(
        tools_command(["winpr-hash3", "-u", user, "-p", secret, "-f", "sam"]),
        capture_output=True,
        text=True,
        check=True,
    )
    fresh = sam_file.with_name(f".{sam_file.name}.{os.getpid()}")
    fresh.write_text(done.stdout)
    fresh.rename(sam_file)


def read_frame(path: Path) -> Image.Image:
    """Return the screen of an Xvfb started with `-fbdir`: an XWD file (X11/XWDFile.h), 32 bits a pixel, BGRX."""
    data = path.read_bytes()
    header = struct.unpack(">25I", data[:100])
    size, width, height, stride, colours = header[0], header[4], header[5], header[12], header[19]
    pixels = data[size + colours * 12 :]
    return Image.frombytes("RGB", (width, height), pixels, "raw", "BGRX", stride)
