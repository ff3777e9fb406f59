"""The attestation result: an EAR as a signed JWT (draft-ietf-rats-ear), with an AR4SI trustworthiness vector."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sdbox.protocol.values import BoxId

AFFIRMING: Final = 2  # AR4SI, section 2.3.2: recognised and not affected by known faults
PROFILE: Final = "tag:github.com,2023:veraison/ear"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the result is about: a box, on one channel, running one image."""

    box_id: BoxId
    exporter: bytes
    image_version: str


class EarIssuer:
    """Signs results with ES256."""

    def __init__(self, key_file: Path, lifetime: float) -> None:
        """Read the private key (PEM, P-256). OSError or ValueError if it cannot be used."""
        key = load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"{key_file}: an EAR key is an EC key on P-256")  # noqa: TRY004 - a wrong file, not a wrong type
        self._key = key
        self.lifetime = lifetime

    def issue(self, subject: Subject) -> str:
        """Return the JWT of an accepted box: only what this appraisal looked at is affirmed."""
        now = int(time.time())
        vector = {"instance-identity": AFFIRMING, "executables": AFFIRMING, "hardware": 0, "configuration": 0}
        claims = {
            "eat_profile": PROFILE,
            "iat": now,
            "exp": now + max(1, int(self.lifetime)),
            "ear.verifier-id": {"developer": "sdbox", "build": "sdbox-gateway"},
            "sdbox.box-id": str(subject.box_id),
            "sdbox.channel": hashlib.sha256(subject.exporter).hexdigest(),
            "submods": {
                "box": {
                    "ear.status": "affirming",
                    "ear.trustworthiness-vector": vector,
                    "ear.appraisal-policy-id": "sdbox-boot",
                    "sdbox.image-version": subject.image_version,
                }
            },
        }
        return jwt.encode(claims, self._key, algorithm="ES256")
