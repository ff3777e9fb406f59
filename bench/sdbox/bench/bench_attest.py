"""Measures the appraisal: with known and full logs, beside a bare P-256 verify and beside tpm2_eventlog with YAML.

CPU time of one core: what a neighbour on the machine does to the wall clock is not ours. The sides take turns, and the
figure is the median of the turns.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sdbox.attestation.appraisal import Memory, appraise
from sdbox.attestation.evidencefile import read_evidence
from sdbox.attestation.policy import Policy, read_policy
from sdbox.bench.bench_centre import centre_rows, kept_rows
from sdbox.bench.bench_keylime import Check, Question, find_checkquote, questions
from sdbox.bench.bench_way import Row
from sdbox.bench.software_box import Ask, SoftwareBox, renewal
from sdbox.boot.firmware import read_profile
from sdbox.boot.reference import ReferenceValues, read_reference
from sdbox.image.source import find_source
from sdbox.protocol.values import Evidence

BOXES = 1000
MANY = 5000  # boxes: more than a gateway keeps the keys of, so that each key is parsed each time
TURNS = 7
LOG_READS = 20
_ECDSA = ec.ECDSA(hashes.SHA256())
_LOAD = "import sys, yaml; yaml.load(open(sys.argv[1]), Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The bench's good boot, and what it is held against."""

    boxes: tuple[SoftwareBox, ...]
    reference: ReferenceValues
    policy: Policy
    evidence: Evidence

    def memory(self, *, logs: int = 1024) -> Memory:
        return Memory(self.reference, self.policy, logs=logs, keys=len(self.boxes))

    def asks(self, *, own_log: bool = False) -> list[Ask]:
        return [box.ask(self.reference, self.policy, own_log=own_log) for box in self.boxes]


def measure_attest(output: Path) -> list[Row]:
    """Return the rows of `sdbox bench attest`. RuntimeError if an honest box is refused."""
    output.mkdir(parents=True, exist_ok=True)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        recorded = read_recorded(BOXES)
        centre = centre_rows(recorded.asks()[0], recorded.memory(), output)
        beside = [*_log_rows(recorded, output), *_keylime_rows(recorded)]
        rates, many = _rates(recorded), read_recorded(MANY)
        kept = kept_rows(many.asks(own_log=True), Memory(many.reference, many.policy), output)
        return [*rates, _many_row(many), *beside, *centre, *kept]
    finally:
        os.sched_setaffinity(0, cores)


def read_recorded(boxes: int) -> Recorded:
    """Read the recorded good boot and make boxes like it."""
    folder = find_source().root / "tests" / "vectors" / "evidence"
    evidence = read_evidence((folder / "good.json").read_bytes()).evidence
    profile = read_profile((folder / "firmware.json").read_bytes())
    policy = msgspec.structs.replace(read_policy((folder / "policy.json").read_bytes()), firmware=(profile,))
    made = tuple(SoftwareBox(evidence) for _ in range(boxes))
    return Recorded(made, read_reference((folder / "reference.json").read_bytes()), policy, evidence)


def _rates(recorded: Recorded) -> list[Row]:
    """Known logs: named by their hash (a renewal), and sent again; full logs: none seen before."""
    memory, full = recorded.memory(), recorded.memory(logs=1)
    for ask in recorded.asks():
        _judge(ask, memory)
        _judge(ask, full)
    times: dict[str, list[float]] = {name: [] for name in ("bare", "hash", "known", "full")}
    single: list[float] = []
    for _ in range(TURNS):
        asks, own = recorded.asks(), recorded.asks(own_log=True)
        keys = [box.key for box in recorded.boxes]
        short = [renewal(ask) for ask in asks]
        times["bare"].append(_cpu(lambda: _verify_all(keys, asks)))  # noqa: B023 - called at once
        times["hash"].append(_cpu(lambda: _judge_all(short, memory)))  # noqa: B023
        times["known"].append(_cpu(lambda: _judge_all(asks, memory)))  # noqa: B023
        times["full"].append(_cpu(lambda: _judge_all(own, full)))  # noqa: B023
        single += [_cpu(lambda: _judge(ask, memory)) for ask in short]  # noqa: B023
    each = {name: statistics.median(values) / BOXES for name, values in times.items()}
    percentile = statistics.quantiles(single, n=100)[98]
    bare, beside = "bare P-256 verify, same library, keys and messages", each["bare"]
    return [
        Row("appraisal, log by its hash", each["hash"], bare, beside, 4.0, 2.0),
        Row("appraisal, known log sent again", each["known"], bare, beside, 4.0, 2.0),
        Row("appraisal, full log", each["full"], bare, beside),
        Row("appraisal, log by its hash, 99th percentile", percentile, "its median", statistics.median(single)),
    ]


def _many_row(many: Recorded) -> Row:
    """As a million boxes come: no key is remembered, the log of the model is."""
    memory = Memory(many.reference, many.policy)
    asks, keys = many.asks(), [box.key for box in many.boxes]
    _judge_all(asks, memory)
    short = [renewal(ask) for ask in asks]
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(TURNS):
        theirs.append(_cpu(lambda: _verify_all(keys, asks)) / MANY)
        ours.append(_cpu(lambda: _judge_all(short, memory)) / MANY)
    beside = "bare P-256 verify, same library, keys and messages"
    value = statistics.median(ours)
    return Row("appraisal, log by its hash, key not remembered", value, beside, statistics.median(theirs), 4.0, 2.0)


def _log_rows(recorded: Recorded, output: Path) -> list[Row]:
    """The whole appraisal with a full log, beside the tool and the YAML of the same log alone."""
    tool = shutil.which("tpm2_eventlog")
    yaml = _python_with_yaml()
    if tool is None or yaml is None:
        print("no tpm2_eventlog or no python3-yaml: the row is left out", file=sys.stderr)
        return []
    log, text = output / "eventlog.bin", output / "eventlog.yaml"
    log.write_bytes(recorded.evidence.event_log)
    full = recorded.memory(logs=1)
    _judge_all(recorded.asks(), full)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(LOG_READS):
        own = recorded.asks(own_log=True)[:50]
        ours.append(_cpu(lambda: _judge_all(own, full)) / len(own))  # noqa: B023 - called at once
        theirs.append(_children(lambda: _tool_and_yaml(tool, yaml, log, text)) - _children(lambda: _nothing(yaml)))
    value, beside = statistics.median(ours), statistics.median(theirs)
    return [Row("appraisal, full log", value, "tpm2_eventlog and a YAML load of the same log", beside, 0.2, 0.05)]


def _keylime_rows(recorded: Recorded) -> list[Row]:
    """Our whole appraisal with a known log, beside Keylime's check of the quote alone."""
    check = find_checkquote()
    if check is None:
        return []
    memory = recorded.memory()
    _judge_all(recorded.asks(), memory)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(TURNS):
        asks = recorded.asks()
        told = questions(recorded.boxes, asks)
        ours.append(_cpu(lambda: _judge_all(asks, memory)) / BOXES)  # noqa: B023 - called at once
        theirs.append(_cpu(lambda: _check_all(check, told)) / BOXES)  # noqa: B023
    value, beside = statistics.median(ours), statistics.median(theirs)
    return [Row("appraisal, known log sent again", value, "Keylime's checkquote, without any log", beside)]


def _tool_and_yaml(tool: str, python: str, log: Path, text: Path) -> None:
    with text.open("wb") as out:
        subprocess.run([tool, str(log)], stdout=out, stderr=subprocess.DEVNULL, check=True)
    subprocess.run([python, "-c", _LOAD, str(text)], check=True)


def _nothing(python: str) -> None:
    """Start the interpreter and load the library: what a service does once is not counted."""
    subprocess.run([python, "-c", "import yaml"], check=True)


def _python_with_yaml() -> str | None:
    probe = ["-c", "import yaml; raise SystemExit(not yaml.__with_libyaml__)"]
    for python in ("/usr/bin/python3", sys.executable):
        if Path(python).exists() and subprocess.run([python, *probe], check=False, capture_output=True).returncode == 0:
            return python
    return None


def _judge(ask: Ask, memory: Memory) -> None:
    verdict = appraise(ask.evidence, ask.expected, memory)
    if not verdict.accepted:
        raise RuntimeError(f"an honest box was refused: {verdict.failures}")


def _judge_all(asks: Iterable[Ask], memory: Memory) -> None:
    for ask in asks:
        _judge(ask, memory)


def _check_all(check: Check, told: Sequence[Question]) -> None:
    for one in told:
        check(*one)


def _verify_all(keys: Sequence[ec.EllipticCurvePublicKey], asks: Sequence[Ask]) -> None:
    for key, ask in zip(keys, asks, strict=True):
        key.verify(ask.der, ask.evidence.attest, _ECDSA)


def _cpu(work: Callable[[], None]) -> float:
    """Return the seconds of CPU that `work` takes here."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _children(work: Callable[[], None]) -> float:
    """Return the seconds of CPU that the processes of `work` take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
