"""The lab's gateway: a process in namespace `centre`, started with whatever settings a test wants."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from sdbox.bench.bubble import DESKTOP_PORT, Bubble
from sdbox.bench.network import CENTRE_ADDRESS
from sdbox.host.pki import DevelopmentPki
from sdbox.qemu.child import Child, in_namespace
from sdbox.qemu.deadline import wait_for
from sdbox.qemu.tpm import TpmState

LISTEN = f"{CENTRE_ADDRESS}:443"
GATEWAY = (str(Path(sys.executable).with_name("sdbox-gateway")),)  # installed beside this interpreter
START_SECONDS = 30.0

Value = str | int | list[str]


class EnrolmentFailed(RuntimeError):
    """The gateway's command did not change its inventory; the text has its own words."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What boxes are held against beyond their image: a firmware profile and a policy.json."""

    firmware: Path
    policy: Path


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the gateway is started with; change a copy (`dataclasses.replace`) to make it refuse."""

    certificate: Path
    key: Path
    card_ca: Path
    ear_key: Path
    reference: Path
    lease: int = 15  # seconds without a heartbeat until a session ends
    recorded: Path | None = None  # folder in which each piece of evidence is kept (`recording_gateway`)
    program: tuple[str, ...] = GATEWAY  # what serves; a test may put one that lies in its place
    card_key: Path | None = None  # the card CA's: with it the gateway renews certificates
    policy: Path | None = None  # policy.json of docs/attestation.md
    firmware: tuple[Path, ...] = ()  # firmware profiles: with one, PCRs 0 to 3 are quoted too
    fresh: tuple[str, ...] = ()  # projects whose bubble wants a fresh finger

    @classmethod
    def development(cls, pki: DevelopmentPki, reference: Path, rules: Rules | None = None) -> GatewaySettings:
        """Return the settings under which everything of the development set-up is accepted."""
        files = (pki.certificate("gateway"), pki.key("gateway"), pki.certificate("card-ca"), pki.key("ear"))
        settings = cls(*files, reference, card_key=pki.key("card-ca"))
        return replace(settings, policy=rules.policy, firmware=(rules.firmware,)) if rules else settings


class GatewayProcess:
    """The gateway of a lab. Its database (enrolled boxes, record) stays when it is stopped and started again."""

    def __init__(self, settings: GatewaySettings, centre: str, bubbles: Sequence[Bubble], work: Path) -> None:
        self.settings = settings
        self.work = work / "gateway"
        self._centre = centre
        self._bubbles = tuple(bubbles)
        self._child: Child | None = None

    @property
    def log(self) -> Path:
        """Everything the gateway wrote, over all its starts."""
        return self.work / "gateway.log"

    def events(self) -> list[dict[str, str]]:
        """Return the record as the gateway wrote it to its log, oldest first, over all its starts."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def config(self) -> Path:
        """The configuration file of the last start, for the gateway's other commands."""
        return self.work / "gateway.toml"

    def start(self, settings: GatewaySettings | None = None) -> None:
        """Start it (with other settings, this time only) and wait until it listens; ChildFailed if it ends instead."""
        self.stop()
        self._write_config(settings or self.settings)
        child = Child("gateway", self._command(settings or self.settings), self.log, netns=self._centre)
        self._child = child
        probe = in_namespace(self._centre, ["ss", "-Htln", f"src {LISTEN}"])

        def listening() -> bool:
            child.check()
            return bool(subprocess.run(probe, capture_output=True, check=True).stdout.strip())

        wait_for(listening, f"the gateway on {LISTEN}", START_SECONDS, interval=0.05)

    def stop(self) -> None:
        """Stop it; calling it again does nothing."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def enrol(self, box: UUID, tpm: TpmState) -> None:
        """Let this box in, with this TPM only. A running gateway gets to know at once."""
        self.admin("enrol", "--box-id", str(box), "--ek-public", str(tpm.ek_public))

    def forget(self, box: UUID) -> None:
        """Take a box off the inventory again."""
        self.admin("forget", "--box-id", str(box))

    def admin(self, command: str, *arguments: str) -> str:
        """Run one of the gateway's commands on its configuration and return its output; EnrolmentFailed otherwise."""
        if not self.config.exists():
            self._write_config(self.settings)
        argv = [*GATEWAY, command, "--config", str(self.config), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EnrolmentFailed(f"gateway {command}: {done.stderr.strip()}")
        return done.stdout

    def _command(self, settings: GatewaySettings) -> list[str]:
        if settings.recorded is not None:
            return [sys.executable, "-m", "sdbox.bench.recording_gateway", str(self.config), str(settings.recorded)]
        return [*settings.program, "serve", "--config", str(self.config)]

    def _write_config(self, settings: GatewaySettings) -> None:
        self.work.mkdir(exist_ok=True)
        config: dict[str, Value] = {
            "listen": LISTEN,
            "certificate": str(settings.certificate),
            "key": str(settings.key),
            "card_ca": str(settings.card_ca),
            "ear_key": str(settings.ear_key),
            "references": [str(settings.reference)],
            "database": f"sqlite:///{self.work / 'gateway.db'}",
            "lease_seconds": settings.lease,
            "development": True,
        }
        if settings.policy is not None:
            config["policy"] = str(settings.policy)
        if settings.firmware:
            config["firmware"] = [str(path) for path in settings.firmware]
        if settings.card_key is not None:
            config |= {"issuing.own.certificate": str(settings.card_ca), "issuing.own.key": str(settings.card_key)}
        tables = [_toml(config), *(_bubble_tables(bubble, settings.fresh) for bubble in self._bubbles)]
        self.config.write_text("\n".join(tables))


def _bubble_tables(bubble: Bubble, fresh: Sequence[str]) -> str:
    spec = bubble.spec
    entry: dict[str, Value] = {"project": spec.project, "title_fr": spec.title_fr, "title_en": spec.title_en}
    entry |= {"network": spec.network, "gateway_address": spec.server}
    entry |= {"fresh_finger": spec.project in fresh}
    tunnel: dict[str, Value] = {"socket": str(bubble.control_socket), "listen_port": spec.tunnel_port}
    tunnel |= {"endpoints": [spec.endpoint]}
    desktop: dict[str, Value] = {"host": spec.server, "port": DESKTOP_PORT, "sam_file": str(bubble.sam_file)}
    desktop |= {"certificate_sha256": bubble.fingerprint}
    return f"[[bubble]]\n{_toml(entry)}[bubble.wireguard]\n{_toml(tunnel)}[bubble.desktop]\n{_toml(desktop)}"


def _toml(table: dict[str, Value]) -> str:
    """JSON's strings, numbers and lists of strings are TOML's too (TOML 1.0, basic strings)."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
