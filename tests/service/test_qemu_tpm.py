"""The software TPM as it leaves the factory, and which acceleration is chosen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sdbox.qemu import accel
from sdbox.qemu.tpm import TpmState, copy_state, manufacture

EK_CERTIFICATE_USAGE = "2.23.133.8.1"  # tcg-kp-EKCertificate


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> TpmState:
    folder = tmp_path_factory.mktemp("tpm")
    return manufacture(folder / "one", folder / "maker")


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_ek_certificate_is_the_maker_s(tpm: TpmState) -> None:
    for path in (tpm.ek_certificate, tpm.ek_ecc_certificate):
        load(path).verify_directly_issued_by(load(tpm.issuer))
        usage = load(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [identifier.dotted_string for identifier in usage] == [EK_CERTIFICATE_USAGE]


def test_the_public_key_is_the_certificate_s(tpm: TpmState) -> None:
    key = load_pem_public_key(tpm.ek_public.read_bytes())
    assert isinstance(key, RSAPublicKey)
    assert key.key_size == 2048
    assert key == load(tpm.ek_certificate).public_key()


def test_a_tpm_is_made_once_and_each_is_another(tpm: TpmState) -> None:
    before = tpm.ek_public.read_bytes()
    maker = tpm.folder.parent / "maker"
    assert manufacture(tpm.folder, maker).ek_public.read_bytes() == before
    other = manufacture(tpm.folder.parent / "two", maker)
    assert other.ek_public.read_bytes() != before
    assert other.issuer.read_bytes() == tpm.issuer.read_bytes()


def test_two_processes_make_one_tpm_and_one_maker(tmp_path: Path) -> None:
    code = "import sys, pathlib; from sdbox.qemu.tpm import manufacture; manufacture(*map(pathlib.Path, sys.argv[1:]))"
    folders = [tmp_path / name for name in ("one", "one", "two")]
    command = [sys.executable, "-c", code]
    makers = [subprocess.Popen([*command, str(folder), str(tmp_path / "maker")]) for folder in folders]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    one, two = TpmState(tmp_path / "one"), TpmState(tmp_path / "two")
    assert one.issuer.read_bytes() == two.issuer.read_bytes()
    assert one.ek_public.read_bytes() != two.ek_public.read_bytes()


def test_a_copy_is_the_same_tpm_in_its_own_folder(tpm: TpmState, tmp_path: Path) -> None:
    copy = copy_state(tpm, tmp_path / "copy")
    assert copy.ek_public.read_bytes() == tpm.ek_public.read_bytes()
    assert copy.folder != tpm.folder


def test_a_failed_manufacture_leaves_no_tpm(tmp_path: Path) -> None:
    (tmp_path / "maker").mkdir()
    (tmp_path / "maker" / "issuercert.pem").mkdir()
    with pytest.raises(ChildProcessError, match="swtpm_setup failed"):
        manufacture(tmp_path / "tpm", tmp_path / "maker")
    assert not (tmp_path / "tpm").exists()


def test_the_probe_guest_runs_under_software_emulation() -> None:
    assert accel._probe(accel.TCG.accel) is None


def test_without_a_device_software_emulation_is_announced(tmp_path: Path) -> None:
    chosen = accel.choose_acceleration(tmp_path / "kvm")
    assert chosen.accel == accel.TCG.accel
    assert "no " in chosen.why
