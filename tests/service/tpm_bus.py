"""A software TPM behind the interposer, and what is left in it afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.attestation.credential import default_ek_name, make_credential
from sdbox.attestation.evidence import Request, collect
from sdbox.attestation.tpm import open_tpm
from sdbox.protocol.values import BoxId, Evidence
from tests.service.swtpm_fixture import endorsement_key

BOX = BoxId(uuid.UUID("12345678-1234-1234-1234-123456789abc"))
REQUEST = Request(b"n" * 32, b"e" * 32, (4, 7, 11, 12, 13))
_INTERPOSER = Path(__file__).with_name("tpm_interposer.py")


@dataclass(frozen=True)
class Proof:
    """What a centre gets of a box that goes the whole way."""

    activated: bool
    evidence: Evidence


@dataclass
class Bus:
    """`direct` is the TPM's TCTI without anything between; `folder` is the interposer's; `ek` is the enrolled key."""

    direct: str
    folder: Path
    ek: rsa.RSAPublicKey
    secret: bytes = b""

    @classmethod
    def to(cls, direct: str, folder: Path) -> Bus:
        folder.mkdir()
        with open_tpm(direct) as tpm:
            ek = endorsement_key(tpm)
        bus = cls(direct, folder, ek)
        bus.plan()
        (folder / "log").write_bytes(b"a log")
        return bus

    @property
    def tcti(self) -> str:
        return f"cmd:{sys.executable} -S {_INTERPOSER} {self.direct.split()[-1]} {self.folder}"

    def plan(self, **plan: object) -> None:
        """Set what the interposer does on the next connection (`tpm_interposer.py`), and forget what it saw."""
        (self.folder / "plan.json").write_text(json.dumps(plan))
        (self.folder / "journal").write_text("")

    def traffic(self) -> list[tuple[bytes, bytes]]:
        """Return the commands and answers since the last plan."""
        lines = (self.folder / "journal").read_text().splitlines()
        return [(bytes.fromhex(command), bytes.fromhex(answer)) for command, answer in map(str.split, lines)]

    def prove(self) -> Proof:
        """Go the whole way as a box does: attestation key, credential, quote. Raises Refusal."""
        self.secret = os.urandom(32)
        with open_tpm(self.tcti) as tpm:
            credential = make_credential(self.ek, tpm.ak_name(), self.secret)
            back = tpm.activate(*credential, default_ek_name(self.ek))
            return Proof(back == self.secret, collect(tpm, REQUEST, BOX, self.folder / "log"))

    def left(self) -> list[str]:
        """Return the transient objects and sessions that the TPM still holds."""
        kinds = ("handles-transient", "handles-loaded-session", "handles-saved-session")
        return [handle for kind in kinds for handle in self.tool("tpm2_getcap", kind).split()]

    def clean(self) -> None:
        """What the kernel's resource manager does when a connection ends."""
        for option in ("-t", "-l", "-s"):
            self.tool("tpm2_flushcontext", option)

    def tool(self, *argv: str, fails: bool = False) -> str:
        """Run one of tpm2-tools against the TPM itself."""
        command = [argv[0], "--tcti", self.direct, *argv[1:]]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stdout
