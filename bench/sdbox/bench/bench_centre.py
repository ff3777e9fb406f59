"""What the centre does for a box beside appraising it: credential, signed result, history; and what it keeps of all."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sdbox.attestation.appraisal import Memory, appraise
from sdbox.attestation.ear import Subject
from sdbox.bench.bench_way import Row
from sdbox.bench.software_box import Ask
from sdbox.gateway.ear import EarIssuer
from sdbox.gateway.limits import RateLimit
from sdbox.gateway.passes import Pass, Passes
from sdbox.gateway.store import Store
from sdbox.gateway.verifier import make_challenge

TURNS = 300
ENROLLED = 100_000
SAMPLE = 2000  # boxes whose rows are written


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


def kept_rows(asks: Sequence[Ask], memory: Memory, output: Path) -> list[Row]:
    """Return what a gateway holds in memory once each of `asks` has passed, and on disk for ENROLLED boxes; MB.

    The inventory and the history are rows of the database. In memory are the parsed keys, the facts about logs and the
    rate limits, all bounded: `asks` are to be more than fit in.
    """
    limits = RateLimit(10, 60.0), RateLimit(10, 60.0)  # of boxes and of addresses
    gc.collect()
    before = _resident()
    for number, ask in enumerate(asks):  # kept alive by the caller: what they free must not be reused
        limits[0].take(str(ask.expected.box_id))
        limits[1].take(f"2001:db8::{number:x}")
        appraise(ask.evidence, ask.expected, memory)
    held = _resident() - before
    what = f"in memory, however many are enrolled: {len(memory.keys)} keys, {len(memory.logs)} logs, limits; MB"
    return [Row(what, held / 1e6), Row(f"on disk for {ENROLLED} enrolled boxes, MB", _stored(asks, output) / 1e6)]


def _stored(asks: Sequence[Ask], output: Path) -> float:
    database = output / "enrolled.sqlite"
    database.unlink(missing_ok=True)
    store = Store(f"sqlite:///{database}")
    passes = Passes(store)
    key = rsa.generate_private_key(65537, 2048).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    empty = database.stat().st_size
    for ask in asks[:SAMPLE]:
        box = ask.expected.box_id
        store.enrol(box, f"{pem[:60]}{box}{pem[96:]}")  # another key for the database, which never reads it
        if ask.expected.previous:
            passes.keep(box, Pass.now(ask.expected.ak_name or b"", ask.expected.previous, "1"), after=None)
    store.close()
    return (database.stat().st_size - empty) / SAMPLE * ENROLLED


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return float(pages * resource.getpagesize())


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
