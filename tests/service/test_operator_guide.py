"""The operator guide's commands, as written: each exists with each of its options; what needs no box or card is run.

They run in one folder, in the order of the guide, with the files that it names.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.bench.cli import cli
from sdbox.gateway.config import Config, load_config
from sdbox.gateway.main import main as gateway
from sdbox.smartcard.certificates import can_sign, project_of
from tests.gates.tree import ROOT
from tests.service.gateway_site import Site, pem
from tests.service.swtpm_fixture import manufacture, running_swtpm
from tests.unit.test_smartcard_enrolment import CENTRE, Operator

GUIDE = ROOT.joinpath("docs", "operator-guide.md").read_text(encoding="utf-8")
OURS = {"sdbox": cli, "sdbox-gateway": gateway}
LINES = [line.strip() for line in GUIDE.splitlines() if line.startswith("    ")]
COMMANDS = [line for line in LINES if line.split()[0] in (*OURS, "openssl", "tpm2_createek", "tpm2_getekcertificate")]
SAYS_NO = {"forget-clock": "has never passed"}  # no box is here that could have
ELSEWHERE = ("serve", "image", "probe", "show", "enrol --reader")  # wants boxes, an hour, or a card in a reader
VECTORS = ROOT / "tests" / "vectors" / "evidence"
HOST = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def ours() -> list[str]:
    return [line for line in COMMANDS if line.split()[0] in OURS]


@pytest.mark.parametrize("line", ours())
def test_each_command_and_option_exists(line: str) -> None:
    words = shlex.split(line.partition(" 3<")[0])
    command: click.Command = OURS[words.pop(0)]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []
    needed = {parameter.opts[0] for parameter in command.params if parameter.required}
    assert {word for word in needed if word.startswith("--")} <= set(words)


def settings() -> str:
    """Return the guide's gateway.toml: from `listen` to the first line that is none of it."""
    block = GUIDE[GUIDE.index("    listen = ") :]
    return "\n".join(line.strip() for line in block[: block.index("\nIt starts with")].splitlines())


def test_the_settings_are_settings() -> None:
    config = msgspec.convert(tomllib.loads(settings()), Config, dec_hook=lambda kind, value: kind(value))
    assert config.bubble[0].fresh_finger
    est = GUIDE[GUIDE.index("    [issuing.est]") :].split("\n\n")[0]
    assert "est" in tomllib.loads("\n".join(line.strip() for line in est.splitlines()))["issuing"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the guide names, and a TPM for those who ask for one."""
    folder = tmp_path_factory.mktemp("desk")
    site = Site.make(folder)
    shutil.copytree(site.write().parent, folder, dirs_exist_ok=True)
    for name, there in (("reference", "reference"), ("firmware", "profile"), ("good", "evidence")):
        shutil.copy(VECTORS / f"{name}.json", folder / f"{there}.json")
    evidence = msgspec.json.decode((VECTORS / "good.json").read_bytes())
    (folder / "eventlog.bin").write_bytes(msgspec.convert(evidence["eventlog"], bytes, strict=False))
    operator = Operator()
    (folder / "op.pem").write_bytes(operator.certificate.public_bytes(Encoding.PEM))
    (folder / "op.key").write_bytes(pem(operator.key))
    (folder / "centre-ca.pem").write_bytes(CENTRE.certificate.public_bytes(Encoding.PEM))
    request = x509.CertificateSigningRequestBuilder(x509.Name([]))
    csr = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    (folder / "container.csr").write_bytes(csr.public_bytes(Encoding.PEM))
    extensions = [line for line in LINES if line.split(" = ")[0] in ("basicConstraints", "keyUsage", "subjectAltName")]
    (folder / "container.cnf").write_text("\n".join(extensions) + "\n")
    (folder / "card-ca.crl").write_bytes(_crl(site))
    manufacture(folder / "tpm")
    with running_swtpm(folder / "tpm") as tcti:
        HOST["TPM2TOOLS_TCTI"] = tcti
        yield folder


def _crl(site: Site) -> bytes:
    issuer = site.cards.certificate
    now = issuer.not_valid_before_utc
    builder = (
        x509.CertificateRevocationListBuilder(issuer.subject).last_update(now).next_update(issuer.not_valid_after_utc)
    )
    revoked = x509.RevokedCertificateBuilder(0x55, now).build()
    return builder.add_revoked_certificate(revoked).sign(site.cards.key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_the_commands_do_what_they_say(desk: Path) -> None:
    told: dict[str, str] = {}
    for line in COMMANDS:
        if any(f" {word}" in line for word in ELSEWHERE):
            continue
        done = subprocess.run(
            shlex.split(line), cwd=desk, env=os.environ | HOST, capture_output=True, text=True, timeout=60, check=False
        )
        no = next((text for word, text in SAYS_NO.items() if f" {word} " in line), None)
        assert done.returncode == 0 if no is None else no in done.stderr, f"{line}: {done.stderr}"
        told[line] = done.stdout
    assert load_config(desk / "gateway.toml").bubble
    events = [re.findall(r'"event": "([a-z-]+)"', text) for line, text in told.items() if " audit " in line]
    assert events == [["enrolled", "forgotten", "revoked", "revoked", "revoked", "revoked"]]
    container = (desk / "container.der").read_bytes()
    assert project_of(container) == "atlas"
    assert can_sign(x509.load_der_x509_certificate(container))
    assert (desk / "word").stat().st_size > 0
