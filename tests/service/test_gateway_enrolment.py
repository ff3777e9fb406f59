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
from tests.service.gateway_site import COMMAND, Site


@dataclass
class Factory:
    """A manufactured TPM, the maker's roots as PEM files, and a gateway's site."""

    site: Site
    tpm: TpmState
    roots: Path

    def enrol(self, *options: str, key: Path | None = None, box: str = "", **settings: object) -> tuple[int, str]:
        """Run `sdbox-gateway enrol`; returns the exit code and what it says on stderr."""
        config = replace(self.site, settings={**self.site.settings, **settings}).write()
        argv = [str(COMMAND), "enrol", "--config", str(config), "--box-id", box or str(uuid4())]
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
    roots = folder / "roots"
    roots.mkdir()
    for name in ("swtpm-localca-rootca-cert.pem", "issuercert.pem"):
        roots.joinpath(name).write_bytes(folder.joinpath("maker", name).read_bytes())
    return Factory(Site.make(folder), tpm, roots)


def test_a_tpm_of_a_pinned_vendor_is_enrolled(factory: Factory) -> None:
    assert factory.enrol(*factory.certificate, tpm_roots=str(factory.roots)) == (0, "")


def test_a_certificate_in_der_does_as_well(factory: Factory, tmp_path: Path) -> None:
    der = x509.load_pem_x509_certificate(factory.tpm.ek_certificate.read_bytes()).public_bytes(Encoding.DER)
    (tmp_path / "ek.crt").write_bytes(der + bytes(100))  # as it lies in a larger NV index
    assert factory.enrol("--ek-certificate", str(tmp_path / "ek.crt"), tpm_roots=str(factory.roots)) == (0, "")


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
    box, path = str(uuid4()), tmp_path / "inventory.json"
    path.write_text(json.dumps({box: noted}))
    assert factory.enrol(box=box, inventory=str(path)) == (0, "")
    code, text = factory.enrol(box=str(uuid4()), inventory=str(path))
    assert (code, "check 2 ek-inventory" in text) == (1, True)


def test_roots_that_can_not_be_read_let_nobody_in(factory: Factory, tmp_path: Path) -> None:
    code, text = factory.enrol(*factory.certificate, tpm_roots=str(tmp_path))
    assert (code, "no root certificate" in text) == (1, True)
