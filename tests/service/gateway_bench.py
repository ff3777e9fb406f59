"""A gateway process on loopback with everything real around it but the tunnel's far end: TPM, certificates, SAM files.

The tunnel is a fake at the wire: it speaks wireguard-go's control protocol (tests/contract compares it with the real one).
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tpm2_pytss as tss
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sdbox.agent.channel.channel import Channel
from sdbox.attestation.enrolment import read_endorsement
from sdbox.attestation.evidence import Request, collect
from sdbox.attestation.tpm import Tpm, open_tpm
from sdbox.protocol.values import BoxId, Evidence
from tests.service.swtpm_fixture import manufacture, running_swtpm
from tests.service.uapi_fake import running_uapi
from tests.unit.channel_certificates import Authority

NAME = "gateway.sdbox.test"
PCRS = (4, 7, 11)
COMMAND = Path(sys.executable).with_name("sdbox-gateway")
START_SECONDS = 20.0
EVENT_TAG = 0x00000006  # EV_EVENT_TAG: its digest may cover anything
SEPARATOR = 4
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Box:
    """A box: UUID and running TPM whose PCRs hold what its event log says. It is a `Prover`."""

    box_id: BoxId
    tcti: str
    event_log: Path
    ek_public: Path

    def _run(self, work: Any, *args: Any) -> Any:
        with open_tpm(self.tcti) as tpm:
            return work(tpm, *args)

    async def ak_name(self) -> bytes:
        return bytes(await asyncio.to_thread(self._run, Tpm.ak_name))

    async def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        return bytes(await asyncio.to_thread(self._run, Tpm.activate, id_object, encrypted_secret))

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        request = Request(nonce, exporter, tuple(pcrs))
        evidence = await asyncio.to_thread(self._run, collect, request, self.box_id, self.event_log)
        assert isinstance(evidence, Evidence)
        return evidence


@contextmanager
def running_box(folder: Path) -> Iterator[Box]:
    """Manufacture a TPM, boot it into three measurements, keep it running."""
    folder.mkdir()
    manufacture(folder / "tpm")
    with running_swtpm(folder / "tpm") as tcti:
        _measure(tcti)
        box = Box(BoxId(uuid.uuid4()), tcti, folder / "log", folder / "ek.pem")
        box.event_log.write_bytes(event_log())
        with open_tpm(tcti) as tpm:
            box.ek_public.write_text(read_endorsement(tpm).public_pem)
        yield box


def _digest(index: int) -> bytes:
    hasher = hashes.Hash(hashes.SHA256())
    hasher.update(b"measured into %d" % index)
    return hasher.finalize()


def _measure(tcti: str) -> None:
    with tss.ESAPI(tcti) as esapi:
        for index in PCRS:
            digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=_digest(index)))
            esapi.pcr_extend(tss.ESYS_TR(index), tss.TPML_DIGEST_VALUES([digest]))


def event_log() -> bytes:
    """A crypto-agile log (TCG PC Client Platform Firmware Profile, 10.4.5) with one event for each PCR."""
    spec = b"Spec ID Event03\0" + bytes([0, 0, 0, 0, 0, 2, 0, 2]) + (1).to_bytes(4, "little")
    spec += (0x0B).to_bytes(2, "little") + (32).to_bytes(2, "little") + b"\0"
    log = bytes(4) + (3).to_bytes(4, "little") + bytes(20) + len(spec).to_bytes(4, "little") + spec
    for index in PCRS:
        data = b"measured into %d" % index
        log += index.to_bytes(4, "little") + (0x0D).to_bytes(4, "little") + (1).to_bytes(4, "little")  # EV_IPL
        log += (0x0B).to_bytes(2, "little") + _digest(index) + len(data).to_bytes(4, "little") + data
    return log


def reference(**changed: str) -> str:
    values = {}
    for index in PCRS:
        hasher = hashes.Hash(hashes.SHA256())
        hasher.update(bytes(32) + _digest(index))
        values[str(index)] = hasher.finalize().hex()
    return json.dumps({"pcr_selection": PCRS, "pcrs": {"sha256": values | changed}, "image_version": "1.0"})


@dataclass
class SoftSigner:
    """A container whose key is software. It is a `Signer`."""

    key: PrivateKey
    chain: tuple[bytes, ...]

    async def sign(self, schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        if isinstance(self.key, rsa.RSAPrivateKey):
            assert 0x0804 in schemes
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            return 0x0804, self.key.sign(content, pss, hashes.SHA256())
        if isinstance(self.key.curve, ec.SECP384R1):
            return 0x0503, self.key.sign(content, ec.ECDSA(hashes.SHA384()))
        return 0x0403, self.key.sign(content, ec.ECDSA(hashes.SHA256()))


def container(
    authority: Authority, *projects: str, key: PrivateKey | None = None, days: int = 0, signs: bool = True
) -> SoftSigner:
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = authority.project(key.public_key(), *projects, days=days, signs=signs)
    return SoftSigner(key, (certificate.public_bytes(Encoding.DER),))


def card(*signers: SoftSigner) -> tuple[bytes, ...]:
    return tuple(signer.chain[0] for signer in signers)


def serial(signer: SoftSigner) -> str:
    return f"{x509.load_der_x509_certificate(signer.chain[0]).serial_number:x}"


@dataclass(frozen=True)
class Site:
    """Certificates, configuration values and bubbles of one gateway; `replace` a field to make it differ."""

    folder: Path
    centre: Authority
    cards: Authority
    server_key: ec.EllipticCurvePrivateKey
    server_certificate: x509.Certificate
    settings: dict[str, Any] = field(default_factory=dict)
    reference: str = ""

    @classmethod
    def make(cls, folder: Path) -> Site:
        centre, key = Authority("centre CA"), ec.generate_private_key(ec.SECP256R1())
        return cls(folder, centre, Authority("card CA"), key, centre.server(key.public_key(), NAME), {}, reference())

    def write(self) -> Path:
        """Write all files into a new folder beside; the database is shared by all gateways of the site."""
        run = self.folder / f"run-{uuid.uuid4().hex[:8]}"
        run.mkdir()
        files = {
            "gateway.crt": self.server_certificate.public_bytes(Encoding.PEM),
            "gateway.key": pem(self.server_key),
            "card-ca.crt": self.cards.certificate.public_bytes(Encoding.PEM),
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

    def sam_file(self, project: str) -> Path:
        return self.folder / f"{project}.sam"

    def _toml(self) -> str:
        settings = {"listen": "127.0.0.1:0", **self.settings}
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        lines += ['card_ca = "card-ca.crt"', 'ear_key = "ear.key"']
        lines += ['certificate = "gateway.crt"', 'key = "gateway.key"', 'references = ["reference.json"]']
        lines += [f'database = "sqlite:///{self.folder / "gateway.sqlite"}"']
        lines += ["[limits]", *(f"{name} = 10000" for name in ("address_burst", "address_per_minute", "box_burst"))]
        for number, project in enumerate(("atlas", "boreal"), 1):
            lines += self._bubble(number, project)
        return "\n".join(lines)

    def _bubble(self, number: int, project: str) -> list[str]:
        return [
            "[[bubble]]",
            f'project = "{project}"',
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
def running_gateway(site: Site, **settings: Any) -> Iterator[Gateway]:
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
        process.wait(START_SECONDS)
    finally:
        process.kill()


@contextmanager
def running_tunnels(site: Site) -> Iterator[dict[str, dict[str, dict[str, str]]]]:
    """Run both bubbles' fake tunnels; the value is project -> peer -> its settings, live."""
    with ExitStack() as stack:
        yield {
            project: stack.enter_context(running_uapi(site.folder / f"{project}.sock"))
            for project in ("atlas", "boreal")
        }
