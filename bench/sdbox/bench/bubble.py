"""One bubble of the lab: a namespace with a desktop behind an RDP server, and a tunnel interface as the only way in.

Stands in for a project's virtual machine. The desktop is a solid colour with the project's name, so that a screenshot
of the box tells for certain whose bubble it is in. The RDP server asks for NLA with a user of `sam_file`, which the
gateway rewrites for each grant.
"""

from __future__ import annotations

import datetime as dt
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from PIL import Image, ImageDraw, ImageFont

from sdbox.bench.network import CENTRE_ADDRESS, Network, ip
from sdbox.host.tools import tools_command
from sdbox.qemu.child import Child, in_namespace
from sdbox.qemu.deadline import wait_for
from sdbox.qemu.screen import Colour

DESKTOP_PORT = 3389
DISPLAY = ":1"  # X sockets are per network namespace (abstract) and per mount namespace (file): no two bubbles meet
SIZE = (1280, 800)


@dataclass(frozen=True, slots=True, kw_only=True)
class BubbleSpec:
    """A bubble's catalogue entry. `number` gives its addresses: 10.64.<number>.0/24, UDP port 51820 + number."""

    project: str
    number: int
    colour: Colour
    title_fr: str
    title_en: str

    @property
    def server(self) -> str:
        """Address of the desktop inside the tunnel."""
        return f"10.64.{self.number}.1"

    @property
    def network(self) -> str:
        """The tunnel's inside network."""
        return f"10.64.{self.number}.0/24"

    @property
    def tunnel_port(self) -> int:
        """UDP port of the tunnel at the centre."""
        return 51820 + self.number

    @property
    def endpoint(self) -> str:
        """Where boxes reach the tunnel."""
        return f"{CENTRE_ADDRESS}:{self.tunnel_port}"

    @property
    def interface(self) -> str:
        """Name of the tunnel interface, unique in the lab: WireGuard's control sockets share one folder."""
        return f"wg{self.number}"


ATLAS = BubbleSpec(
    project="atlas", number=1, colour=(32, 80, 192), title_fr="Atlas des territoires", title_en="Territory atlas"
)
BOREAL = BubbleSpec(
    project="boreal", number=2, colour=(192, 96, 32), title_fr="Cohorte boréale", title_en="Boreal cohort"
)
BENCH_BUBBLES = (ATLAS, BOREAL)


class Bubble:
    """Context manager: desktop, RDP server and tunnel interface of one bubble, answering when entered."""

    def __init__(self, spec: BubbleSpec, network: Network, work: Path) -> None:
        """`work`: existing folder of the lab; the bubble makes its own in it."""
        self.spec = spec
        self.namespace = network.bubble(spec.project)
        self.work = work / spec.project
        self.control_folder = work / "wireguard"
        self._centre = network.centre
        self._stack = ExitStack()

    @property
    def control_socket(self) -> Path:
        """The tunnel's UAPI socket (wireguard.com, Cross-platform Interface)."""
        return self.control_folder / f"{self.spec.interface}.sock"

    @property
    def sam_file(self) -> Path:
        """Users of the RDP server, one line each; replace it by renaming a file of the same folder."""
        return self.work / "users" / "sam"

    @property
    def certificate(self) -> Path:
        """The RDP server's certificate, PEM."""
        return self.work / "freerdp" / "shadow" / "shadow.crt"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the RDP server's certificate, lower-case hex."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()

    def __enter__(self) -> Self:
        for folder in (self.sam_file.parent, self.certificate.parent, self.control_folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.sam_file.touch(mode=0o600)
        make_certificate(self.certificate, self.spec.server)
        with ExitStack() as stack:
            self._start_tunnel(stack)
            self._start_desktop(stack)
            self._start_server(stack)
            self._stack = stack.pop_all()
        return self

    def _start_tunnel(self, stack: ExitStack) -> None:
        """Start WireGuard in the centre, whose UDP socket stays there, and move its interface into the bubble."""
        name, inside = self.spec.interface, ("-n", self.namespace)
        command = control_command(["wireguard-go", "-f", name], self.control_folder)
        child = stack.enter_context(
            Child(f"wireguard-go {name}", command, self.work / "wireguard.log", netns=self._centre)
        )

        def listening() -> bool:
            child.check()
            return self.control_socket.is_socket()

        wait_for(listening, f"the control socket of {name}", 10)
        ip("-n", self._centre, "link", "set", name, "netns", self.namespace)
        ip(*inside, "address", "add", f"{self.spec.server}/24", "dev", name)
        ip(*inside, "link", "set", name, "mtu", "1380", "up")

    def _start_desktop(self, stack: ExitStack) -> None:
        argv = ["Xvfb", DISPLAY, "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24", "-noreset", "-nolisten", "tcp"]
        child = stack.enter_context(Child("Xvfb", tools_command(argv), self.work / "xvfb.log", netns=self.namespace))
        picture = self.work / "name.xbm"
        name_picture(self.spec.project.upper()).save(picture)
        red, green, blue = self.spec.colour
        paint = ["xsetroot", "-display", DISPLAY, "-bitmap", str(picture), "-fg", "white"]
        paint += ["-bg", f"#{red:02x}{green:02x}{blue:02x}"]
        command = in_namespace(self.namespace, tools_command(paint, binds=[self.work]))

        def painted() -> bool:
            child.check()
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        wait_for(painted, f"the desktop of {self.spec.project}", 15, interval=0.1)

    def _start_server(self, stack: ExitStack) -> None:
        argv = ["freerdp-shadow-cli3", f"/port:{DESKTOP_PORT}", f"/bind-address:{self.spec.server}"]
        argv += [f"/sam-file:{self.sam_file}", "/sec:nla", "-gfx-avc420", "-gfx-avc444"]  # H.264 stalls on scrolling
        env = {"DISPLAY": DISPLAY, "XDG_CONFIG_HOME": str(self.work), "HOME": str(self.work)}
        command = tools_command(argv, binds=[self.work])
        log = self.work / "rdp.log"
        child = stack.enter_context(Child("freerdp-shadow", command, log, netns=self.namespace, env=env))
        probe = in_namespace(self.namespace, ["ss", "-Htln", f"src {self.spec.server}:{DESKTOP_PORT}"])

        def listening() -> bool:
            child.check()
            return bool(subprocess.run(probe, capture_output=True, check=True).stdout.strip())

        wait_for(listening, f"the desktop server of {self.spec.project}", 15, interval=0.05)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def control_command(argv: list[str], control: Path) -> list[str]:
    """Return the command that runs WireGuard's program in the tools tree with `control` as its folder of sockets.

    The program's own choice is fixed (/var/run/wireguard); ours is put there, so that two labs' sockets never meet.
    """
    command = tools_command(argv)
    at = len(command) - len(argv)
    return [*command[:at], "--bind", str(control), "/run/wireguard", *command[at:]]


def name_picture(name: str) -> Image.Image:
    """Return a two-colour picture of the whole desktop with `name` in large letters in its middle."""
    image = Image.new("1", SIZE)
    draw = ImageDraw.Draw(image)
    draw.text((SIZE[0] // 2, SIZE[1] // 2), name, fill=1, font=ImageFont.load_default(160), anchor="mm")
    return image


def make_certificate(path: Path, name: str) -> None:
    """Write a self-signed certificate to `path` and its key beside it (`.key`): boxes pin it, no CA is involved."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=365))
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.with_suffix(".key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none))
