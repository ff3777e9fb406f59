"""What the centre does for a box beside appraising it: the credential, the signed result, the box's history."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sdbox.attestation.appraisal import Memory, appraise
from sdbox.attestation.ear import Subject
from sdbox.bench.bench_way import Row
from sdbox.bench.software_box import Ask
from sdbox.gateway.ear import EarIssuer
from sdbox.gateway.passes import Pass, Passes
from sdbox.gateway.store import Store
from sdbox.gateway.verifier import make_challenge

TURNS = 300


def centre_rows(ask: Ask, memory: Memory, output: Path) -> list[Row]:
    """Return seconds of CPU per box for each step; `output` holds the key and the database of the measurement."""
    rules, policy = memory.rules.reference, memory.rules.policy
    verdict = appraise(ask.evidence, ask.expected, memory)
    subject = Subject.of(ask.evidence, bytes(32), ask.expected.box_id, reference=rules, policy=policy)
    issuer = EarIssuer(_key(output / "ear.key"), 300)
    ek = rsa.generate_private_key(65537, 2048).public_key()
    pem = ek.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    name, seen = ask.expected.ak_name or b"", verdict.seen
    database = output / "centre.sqlite"
    database.unlink(missing_ok=True)
    store = Store(f"sqlite:///{database}")
    passes = Passes(store)

    def history() -> None:
        before = passes.last(ask.expected.box_id)
        if seen:
            passes.keep(ask.expected.box_id, Pass.now(name, seen, "1"), after=before)

    rows = [
        Row("credential for an RSA-2048 EK", _median(lambda: make_challenge(pem, name))),
        Row("result: claims, policy digest, signature", _median(lambda: issuer.issue(verdict, subject))),
        Row("history of a box: read and written, SQLite", _median(history)),
    ]
    store.close()
    return rows


def _key(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def _median(work: Callable[[], object]) -> float:
    times = []
    for _ in range(TURNS):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return statistics.median(times)
