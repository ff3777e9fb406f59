"""Enrolment where a site pins its TPM vendors: a real software TPM's certificate, and what is wrong with others."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.qemu.tpm import TpmState, manufacture
from tests.service.gateway_site import COMMAND, Site, running_gateway, running_tunnels
from tests.unit.evidence_cases import FOLDER

BOX = str(uuid4())  # the one that the factory's TPM is in
OPEN = "sdbox-gateway: set {}; only with `development = true` may they be left out"


@dataclass
class Factory:
    """A manufactured TPM, the maker's roots as PEM files, and a gateway's site."""

    site: Site
    tpm: TpmState
    roots: Path

    def under(self, settings: dict[str, object]) -> Factory:
        """Return it with these settings and no others."""
        return replace(self, site=replace(self.site, settings=settings))

    def enrol(self, *options: str, key: Path | None = None, box: str = "", **settings: object) -> tuple[int, str]:
        """Run `sdbox-gateway enrol`; returns the exit code and what it says on stderr."""
        config = replace(self.site, settings={**self.site.settings, **settings}).write()
        argv = [str(COMMAND), "enrol", "--config", str(config), "--box-id", box or BOX]
        argv += ["--ek-public", str(key or self.tpm.ek_public), *options]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr.strip()

    @property
    def certificate(self) -> tuple[str, str]:
        return "--ek-certificate", str(self.tpm.ek_certificate)


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    folder = tmp_path_factory.mktemp("factory")
    tpm = manufacture(folder / "tpm", folder / "maker")
    site = Site.make(folder)
    return Factory(site, tpm, bundle(folder / "maker", folder / "roots"))


def bundle(maker: Path, folder: Path) -> Path:
    """Make a bundle of a software TPM maker's certificates, as for a development bench."""
    for name in ("swtpm-localca-rootca-cert.pem", "issuercert.pem"):
        added = sdbox("roots", "add", folder, maker / name, "--source", "file:swtpm_setup", "--development")
        assert added.returncode == 0, added.stderr
    return folder


def sdbox(*argv: object) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND.with_name("sdbox")), *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_tpm_of_a_pinned_vendor_is_enrolled(factory: Factory) -> None:
    assert factory.enrol(*factory.certificate, tpm_roots=str(factory.roots)) == (0, "")


def test_a_certificate_in_der_does_as_well(factory: Factory, tmp_path: Path) -> None:
    der = x509.load_pem_x509_certificate(factory.tpm.ek_certificate.read_bytes()).public_bytes(Encoding.DER)
    (tmp_path / "ek.crt").write_bytes(der + bytes(100))  # as it lies in a larger NV index
    assert factory.enrol("--ek-certificate", str(tmp_path / "ek.crt"), tpm_roots=str(factory.roots)) == (0, "")
    audit = subprocess.run(
        [COMMAND, "audit", "--config", factory.site.write()], capture_output=True, timeout=60, check=True
    )
    last = json.loads(audit.stdout.splitlines()[-1])
    assert (last["event"], last["box"], last["quirks"]) == ("enrolled", BOX, "padding")


def test_row_1_no_certificate_or_one_of_another_maker_is_refused(factory: Factory, tmp_path: Path) -> None:
    code, text = factory.enrol(tpm_roots=str(factory.roots))
    assert (code, "check 1 ek-chain" in text) == (1, True)
    other = manufacture(tmp_path / "tpm", tmp_path / "maker")
    code, text = factory.enrol(
        "--ek-certificate", str(other.ek_certificate), key=other.ek_public, tpm_roots=str(factory.roots)
    )
    assert (code, "check 1 ek-chain" in text) == (1, True)


def test_row_2_a_certificate_for_another_key_is_refused(factory: Factory, tmp_path: Path) -> None:
    other = manufacture(tmp_path / "tpm", factory.site.folder / "maker")
    code, text = factory.enrol(*factory.certificate, key=other.ek_public, tpm_roots=str(factory.roots))
    assert (code, text.endswith("check 2 ek-mismatch: the certificate is for another key")) == (1, True)


def test_row_2_the_factory_s_inventory_binds_a_box_to_its_key(factory: Factory, tmp_path: Path) -> None:
    key = x509.load_pem_x509_certificate(factory.tpm.ek_certificate.read_bytes()).public_key()
    noted = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps({BOX: noted}))
    assert factory.enrol(inventory=str(path)) == (0, "")
    code, text = factory.enrol(box=str(uuid4()), inventory=str(path))
    assert (code, "check 2 ek-inventory" in text) == (1, True)


def test_row_3_a_key_that_no_default_template_gives_is_refused(factory: Factory, tmp_path: Path) -> None:
    ecc = x509.load_pem_x509_certificate(factory.tpm.ek_ecc_certificate.read_bytes()).public_key()
    (tmp_path / "ecc.pem").write_bytes(ecc.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    code, text = factory.enrol(key=tmp_path / "ecc.pem")
    assert (code, "check 3 ek-template" in text) == (1, True)


@pytest.fixture(scope="module")
def in_service(factory: Factory) -> dict[str, object]:
    """The settings that a site in service may not leave out."""
    folder = factory.site.folder
    (folder / "policy.json").write_text(json.dumps({"tpm_firmware": [], "microcode": {}}))
    (folder / "inventory.json").write_text("{}")
    names = {"policy": "policy.json", "inventory": "inventory.json", "tpm_roots": "roots"}
    rules = {name: str(folder / file) for name, file in names.items()}
    return {**rules, "firmware": [str(FOLDER / "firmware.json")], "development": False}


@pytest.mark.parametrize("left_out", ["policy", "firmware", "tpm_roots", "inventory"])
def test_row_28_without_its_rules_a_site_neither_enrols_nor_serves(
    factory: Factory, in_service: dict[str, object], left_out: str
) -> None:
    site = factory.under({name: value for name, value in in_service.items() if name != left_out})
    assert site.enrol(*factory.certificate) == (2, OPEN.format(left_out))
    argv = [str(COMMAND), "serve", "--config", str(site.site.write())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (2, "", OPEN.format(left_out))


def test_a_site_with_all_its_rules_serves(factory: Factory, in_service: dict[str, object]) -> None:
    with running_tunnels(factory.site), running_gateway(factory.site, **in_service) as gateway:
        assert gateway.endpoint


def test_row_28_a_policy_says_which_tpms_and_which_microcode(
    factory: Factory, in_service: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "policy.json").write_text("{}")
    site = factory.under(in_service | {"policy": str(tmp_path / "policy.json")})
    told = OPEN.format("tpm_firmware of the policy, microcode of the policy")
    assert site.enrol(*factory.certificate) == (2, told)


def test_a_software_tpm_is_for_development_only(factory: Factory, in_service: dict[str, object]) -> None:
    code, text = factory.under(in_service).enrol(*factory.certificate)
    assert (code, "for development only" in text) == (1, True)
    maker = factory.site.folder / "maker" / "swtpm-localca-rootca-cert.pem"
    refused = sdbox("roots", "add", factory.site.folder / "other", maker, "--source", "file:x")
    assert (refused.returncode, "for development only" in refused.stderr) == (2, True)


def test_another_tpm_for_a_known_box_needs_an_operator_who_forgets_it_first(factory: Factory, tmp_path: Path) -> None:
    one, other = (manufacture(tmp_path / name, tmp_path / "maker") for name in ("one", "other"))
    box = str(uuid4())
    assert factory.enrol(key=one.ek_public, box=box) == (0, "")
    assert factory.enrol(key=one.ek_public, box=box) == (0, "")
    code, text = factory.enrol(key=other.ek_public, box=box)
    assert (code, text.endswith("is enrolled with another EK")) == (1, True)
    config = factory.site.write()
    subprocess.run([COMMAND, "forget", "--config", config, "--box-id", box], check=True, timeout=60)
    assert factory.enrol(key=other.ek_public, box=box) == (0, "")


def test_row_2_one_tpm_is_one_box(factory: Factory) -> None:
    assert factory.enrol() == (0, "")
    code, text = factory.enrol(box=str(uuid4()))
    assert (code, text) == (1, f"sdbox-gateway: this TPM is enrolled as box {BOX}: forget that one first")


def test_roots_that_can_not_be_read_let_nobody_in(factory: Factory, tmp_path: Path) -> None:
    code, text = factory.enrol(*factory.certificate, tpm_roots=str(tmp_path))
    assert (code, "no root certificate" in text) == (1, True)
