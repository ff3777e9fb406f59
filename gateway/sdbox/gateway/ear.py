"""The attestation result as the gateway signs it: the claims of `sdbox.attestation.ear` as a JWT with ES256."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm

from sdbox.attestation.ear import Subject, Validity, ear_claims
from sdbox.attestation.verdict import Verdict


class EarIssuer:
    """Signs results with ES256."""

    def __init__(self, key_file: Path, lifetime: float) -> None:
        """Read the private key (PEM, P-256). OSError or ValueError if it cannot be used."""
        key = load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"{key_file}: an EAR key is an EC key on P-256")  # noqa: TRY004 - a wrong file, not a wrong type
        self._key, self._key_id = key, key_id(key.public_key())
        self.lifetime = lifetime

    def issue(self, verdict: Verdict, subject: Subject) -> str:
        """Return the JWT of an accepted box. ValueError for a verdict that is not accepted: nothing signs a refusal."""
        if not verdict.accepted:
            raise ValueError("a refused box gets no result")
        validity = Validity(int(time.time()), max(1, int(self.lifetime)))
        header = {"kid": self._key_id}
        return jwt.encode(ear_claims(verdict, subject, validity), self._key, algorithm="ES256", headers=header)


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the key's JWK thumbprint (RFC 7638): which of a centre's keys signed, when it has a new one."""
    members = json.dumps(ECAlgorithm.to_jwk(key, as_dict=True), sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()
