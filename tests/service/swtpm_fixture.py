"""A manufactured software TPM behind a socket in its own folder, for tests that talk to it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.attestation.keys import public_key
from sdbox.attestation.structures import parse_public
from sdbox.attestation.tpm import Tpm

_START_LIMIT = 10.0
_RELAY = Path(__file__).with_name("tpm_relay.py")


def manufacture(state: Path, *, banks: Sequence[str] = ("sha256",)) -> None:
    """Make a TPM with EK certificates and these PCR banks, as a factory would."""
    state.mkdir()
    command = ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--create-ek-cert", "--lock-nvram", "--overwrite"]
    subprocess.run([*command, "--pcr-banks", ",".join(banks)], check=True, capture_output=True, timeout=60)


def endorsement_key(tpm: Tpm) -> rsa.RSAPublicKey:
    """Return the TPM's EK."""
    key = public_key(parse_public(tpm.ek_public()))
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def endorsement_pem(tpm: Tpm) -> str:
    """Return the TPM's EK as an operator enrols it."""
    return endorsement_key(tpm).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@contextmanager
def running_swtpm(state: Path, *, resume: bool = False) -> Iterator[str]:
    """Start the TPM of `state`, give its TCTI, and end it. Several clients may follow one another.

    `resume`: it wakes from a suspend, before which TPM2_Shutdown(STATE) was sent; else it is powered on.
    """
    path = state / "commands"
    path.unlink(missing_ok=True)
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags"]
    command += ["startup-state" if resume else "startup-clear"]
    with subprocess.Popen([*command, "--server", f"type=unixio,path={path}"], stderr=subprocess.DEVNULL) as process:
        try:
            _await_socket(path, process)
            yield f"cmd:{sys.executable} -S {_RELAY} {path}"
        finally:
            process.terminate()


def _await_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"swtpm did not open {path} within {_START_LIMIT} s")
        time.sleep(0.02)  # between two looks of a wait with a deadline
