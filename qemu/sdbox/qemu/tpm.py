"""The software TPM: manufactured once per state folder (EK and platform certificate), one swtpm process per run."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.host.making import make_once
from sdbox.host.tools import tools_command
from sdbox.qemu.child import Child
from sdbox.qemu.deadline import wait_for


@dataclass(frozen=True, slots=True)
class TpmState:
    """A manufactured TPM at rest. The certificates are PEM, written at manufacture, for enrolment."""

    folder: Path

    @property
    def ek_certificate(self) -> Path:
        """Certificate of the RSA-2048 EK (TCG EK Credential Profile 2.5, template L-1)."""
        return self.folder / "ek-rsa2048.pem"

    @property
    def ek_ecc_certificate(self) -> Path:
        """Certificate of the P-384 EK (TCG EK Credential Profile 2.5, template H-3)."""
        return self.folder / "ek-secp384r1.pem"

    @property
    def ek_public(self) -> Path:
        """Public key of the RSA-2048 EK, SubjectPublicKeyInfo in PEM."""
        return self.folder / "ek-rsa2048.pub"

    @property
    def issuer(self) -> Path:
        """Certificate of the TPM maker's CA that issued the EK certificates."""
        return self.folder / "ek-issuer.pem"


def manufacture(folder: Path, maker: Path) -> TpmState:
    """Return the TPM of `folder`, made on first use with a CA kept in `maker` (made on first use too).

    ChildProcessError with swtpm's words if that fails; a half-made TPM is never seen under `folder`.
    """

    def make(partial: Path) -> None:
        maker.mkdir(parents=True, exist_ok=True, mode=0o700)
        _run_setup(partial, maker)
        _write_certificates(TpmState(partial), maker)

    make_once(folder, make, lock=maker.with_name(f"{maker.name}.lock"))  # the CA is made by one at a time, too
    return TpmState(folder)


def copy_state(source: TpmState, target: Path) -> TpmState:
    """Copy a TPM at rest (or paused and saved) to the new folder `target`: a second, equal TPM that shares nothing."""
    shutil.copytree(source.folder, target, ignore=shutil.ignore_patterns(".lock", "*.sock"))
    return TpmState(target)


def _run_setup(folder: Path, maker: Path) -> None:
    localca, config = maker / "localca.conf", maker / "setup.conf"
    names = {"statedir": "", "signingkey": "signkey.pem", "issuercert": "issuercert.pem", "certserial": "certserial"}
    localca.write_text("".join(f"{key} = {maker / name}\n" for key, name in names.items()))
    config.write_text(
        "create_certs_tool = /usr/bin/swtpm_localca\nactive_pcr_banks = sha256\n"
        f"create_certs_tool_config = {localca}\ncreate_certs_tool_options = /etc/swtpm-localca.options\n"
    )
    argv = [
        "swtpm_setup",
        "--tpm2",
        "--tpmstate",
        str(folder),
        "--config",
        str(config),
        "--write-ek-cert-files",
        str(folder),
    ]
    argv += ["--create-ek-cert", "--create-platform-cert", "--lock-nvram"]
    done = subprocess.run(tools_command(argv, binds=[folder, maker]), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ChildProcessError(f"swtpm_setup failed: {done.stdout.strip()} {done.stderr.strip()}")


def _write_certificates(state: TpmState, maker: Path) -> None:
    shutil.copy(maker / "issuercert.pem", state.issuer)
    for der in state.folder.glob("*.crt"):
        certificate = x509.load_der_x509_certificate(der.read_bytes())
        key = certificate.public_key()
        target = state.ek_ecc_certificate if isinstance(key, EllipticCurvePublicKey) else state.ek_certificate
        target.write_bytes(certificate.public_bytes(Encoding.PEM))
        if target == state.ek_certificate:
            state.ek_public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


class TpmProcess:
    """swtpm for one run of a machine; ends by itself when QEMU closes the control socket `address`."""

    def __init__(self, state: TpmState, work: Path) -> None:
        self.address = work / "tpm.sock"
        self.address.unlink(missing_ok=True)
        # Absolute paths only: swtpm changes directory, and CMD_INIT then fails with 0x9.
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state.folder.resolve()}", "--terminate"]
        argv += ["--ctrl", f"type=unixio,path={self.address.resolve()}"]
        self._child = Child("swtpm", tools_command(argv, binds=[state.folder, work]), work / "swtpm.log")

    def wait_ready(self) -> None:
        """Wait until the control socket is there; the process is gone if it does not come."""
        try:
            wait_for(self._listening, "swtpm's control socket", 10)
        except BaseException:
            self.stop()
            raise

    def _listening(self) -> bool:
        self._child.check()
        return self.address.is_socket()

    def power_cut(self) -> None:
        """Take the TPM's power away. swtpm would send TPM2_Shutdown when its machine is gone: no TPM can do that."""
        self._child.kill()

    def stop(self) -> None:
        """End the process; the permanent state is in its folder."""
        self._child.stop()

    def __enter__(self) -> Self:
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
