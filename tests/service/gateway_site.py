"""A gateway process on loopback: its certificates, configuration and commands, and the tunnels' fake far ends."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sdbox.agent.channel.channel import Channel
from tests.service.gateway_box import Box, reference
from tests.service.uapi_fake import Peers, running_uapi
from tests.unit.channel_certificates import Authority

NAME = "gateway.sdbox.test"
COMMAND = Path(sys.executable).with_name("sdbox-gateway")
STOP_SECONDS = 20.0


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class Site:
    """Certificates, configuration values and bubbles of one gateway; `replace` a field to make it differ."""

    folder: Path
    centre: Authority
    cards: Authority
    server_key: ec.EllipticCurvePrivateKey
    server_certificate: x509.Certificate
    settings: dict[str, object] = field(default_factory=dict)
    reference: str = ""
    fresh: tuple[str, ...] = ()  # projects whose bubble wants a fresh finger
    needs: str = ""  # what each bubble asks of a box, as TOML

    @classmethod
    def make(cls, folder: Path) -> Site:
        centre, key = Authority("centre CA"), ec.generate_private_key(ec.SECP256R1())
        site = cls(folder, centre, Authority("card CA"), key, centre.server(key.public_key(), NAME))
        return replace(site, settings={"development": True}, reference=reference())

    def write(self) -> Path:
        """Write all files into a new folder beside; the database is shared by all gateways of the site."""
        run = self.folder / f"run-{uuid.uuid4().hex[:8]}"
        run.mkdir()
        files = {
            "gateway.crt": self.server_certificate.public_bytes(Encoding.PEM),
            "gateway.key": pem(self.server_key),
            "card-ca.crt": self.cards.certificate.public_bytes(Encoding.PEM),
            "card-ca.key": pem(self.cards.key),
            "ear.key": pem(ec.generate_private_key(ec.SECP256R1())),
            "reference.json": self.reference.encode(),
            "gateway.toml": self._toml().encode(),
        }
        for name, data in files.items():
            run.joinpath(name).write_bytes(data)
        self.ca_file.write_bytes(self.centre.certificate.public_bytes(Encoding.PEM))
        return run / "gateway.toml"

    @property
    def ca_file(self) -> Path:
        return self.folder / "centre-ca.pem"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'gateway.sqlite'}"

    def sam_file(self, project: str) -> Path:
        return self.folder / f"{project}.sam"

    def _toml(self) -> str:
        settings = {"listen": "127.0.0.1:0", **self.settings}
        limits = {"address_burst": 10000, "box_burst": 10000}
        changed = settings.pop("limits", {})
        assert isinstance(changed, dict)
        limits |= changed
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        lines += ['card_ca = "card-ca.crt"', 'ear_key = "ear.key"']
        lines += ['certificate = "gateway.crt"', 'key = "gateway.key"', 'references = ["reference.json"]']
        lines += [f'database = "{self.database}"']
        lines += ["[limits]", *(f"{name} = {count}" for name, count in limits.items())]
        for number, project in enumerate(("atlas", "boreal"), 1):
            lines += self._bubble(number, project)
        return "\n".join(lines)

    def _bubble(self, number: int, project: str) -> list[str]:
        return [
            "[[bubble]]",
            f'project = "{project}"',
            f"fresh_finger = {json.dumps(project in self.fresh)}",
            f'title_fr = "Projet {project}"',
            f'title_en = "Project {project}"',
            f'network = "10.64.{number}.0/24"',
            f'gateway_address = "10.64.{number}.1"',
            "[bubble.wireguard]",
            f'socket = "{self.folder / project}.sock"',
            f"listen_port = {51820 + number}",
            f'endpoints = ["203.0.113.10:{51820 + number}"]',
            "[bubble.desktop]",
            f'host = "10.64.{number}.1"',
            f'certificate_sha256 = "{number:064x}"',
            f'sam_file = "{self.sam_file(project)}"',
            *(["[bubble.box]", self.needs] if self.needs else []),
        ]


@dataclass
class Gateway:
    """A running gateway process."""

    site: Site
    config: Path
    endpoint: str
    process: subprocess.Popen[str]
    log: Path

    async def connect(self) -> Channel:
        return await Channel.connect(self.endpoint, server_name=NAME, ca_file=self.site.ca_file)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(COMMAND), arguments[0], "--config", str(self.config), *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def enrol(self, box: Box) -> None:
        done = self.command("enrol", "--box-id", str(box.box_id), "--ek-public", str(box.ek_public))
        assert done.returncode == 0, done.stderr

    def events(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def running_gateway(site: Site, **settings: object) -> Iterator[Gateway]:
    """Start a gateway and wait until it listens. Its bubbles' fake tunnels must run already."""
    config = replace(site, settings={**site.settings, **settings}).write()
    log = config.with_name("log")
    with ExitStack() as stack:
        errors = stack.enter_context(log.open("w"))
        command = [str(COMMAND), "serve", "--config", str(config)]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True))
        stack.callback(_stop, process)
        assert process.stdout is not None
        line = process.stdout.readline()  # ends with the process; pytest's own limit is the deadline
        assert line.startswith("listening "), log.read_text()
        yield Gateway(site, config, line.split()[1], process, log)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    finally:
        process.kill()


@contextmanager
def running_tunnels(site: Site) -> Iterator[dict[str, Peers]]:
    """Run both bubbles' fake tunnels; the value is project -> peer -> its settings, live."""
    with ExitStack() as stack:
        yield {
            project: stack.enter_context(running_uapi(site.folder / f"{project}.sock"))
            for project in ("atlas", "boreal")
        }
