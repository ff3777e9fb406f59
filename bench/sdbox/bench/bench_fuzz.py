"""Ten minutes of bent inputs (`sdbox bench fuzz`): inputs per second of each parser, and what memory grew by."""

from __future__ import annotations

import gc
import json
import random
import resource
import ssl
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from sdbox.attestation.evidencefile import read_evidence
from sdbox.bench.bench_way import Row
from sdbox.bench.fuzz import run, targets
from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.eventtypes import EV_EFI_VARIABLE_DRIVER_CONFIG
from sdbox.boot.microcode import Microcode, encode_microcode
from sdbox.host.pki import development_pki
from sdbox.image.source import find_source
from sdbox.protocol import messages as m
from sdbox.protocol.wire import encode
from sdbox.smartcard.sensor_frames import Kind
from sdbox.smartcard.sensor_frames import encode as frame
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.piv_references import PRIMARY_FINGER, FingerReference, bit_group

SECONDS = 600.0
BATCH = 200
WARM_UP = 0.2  # of the time: caches fill, the allocator takes its share
GROWTH = 32e6  # bytes of resident memory between warm-up and end


def measure_fuzz(output: Path, seconds: float = SECONDS) -> list[Row]:
    """Feed every parser until the time is over. RuntimeError on a crash, hang or growth; the input is in `output`."""
    output.mkdir(parents=True, exist_ok=True)
    chosen = int(time.time())
    (output / "seed.txt").write_text(f"{chosen}\n", encoding="ascii")
    chance = random.Random(chosen)  # noqa: S311 - must be repeatable, not secret
    counts = dict.fromkeys((target.name for target in targets({})), 0)
    spent = dict.fromkeys(counts, 0.0)
    start, warm = time.monotonic(), 0.0
    while time.monotonic() - start < seconds:
        for target in targets(seeds()):
            begun = time.monotonic()
            try:
                run(target, chance, BATCH)
            except Exception as error:
                (output / "failure.txt").write_text(str(error), encoding="utf-8")
                raise RuntimeError(f"fuzz: {str(error)[:200]}") from error
            counts[target.name] += BATCH
            spent[target.name] += time.monotonic() - begun
        if not warm and time.monotonic() - start > WARM_UP * seconds:
            warm = _resident()
    grown = _resident() - warm
    if grown > GROWTH:
        raise RuntimeError(f"fuzz: memory grew by {grown / 1e6:.0f} MB")
    rows = [Row(f"fuzz {name}: inputs", float(count), "seconds", spent[name]) for name, count in counts.items()]
    return [*rows, Row("fuzz: memory grown, MB", grown / 1e6)]


def seeds() -> dict[str, Sequence[bytes]]:
    """Return inputs that the parsers take, from the recorded evidence."""
    folder = find_source().root / "tests" / "vectors" / "evidence"
    names = ("good", "secure-boot-off")
    files = [(folder / f"{name}.json").read_bytes() for name in names]
    recorded = [read_evidence(data).evidence for data in files]
    events = parse_event_log(recorded[0].event_log).events
    message = m.EvidenceMessage(recorded[0].attest, recorded[0].signature, b"", b"", recorded[0].pcrs)
    certificate = development_pki().certificate("gateway")
    touch = capture(finger_named("good"), random.Random(1))  # noqa: S311 - must be repeatable, not secret
    return {
        "eventlog": [one.event_log for one in recorded],
        "notes": [b"15 9 00ff\n11 13 00\n"],
        "microcode": [encode_microcode(Microcode(0x306A9, 0x21))],
        "quote": [one.attest for one in recorded],
        "signature": [one.signature for one in recorded],
        "key": [one.ak_public for one in recorded],
        "variable": [event.data for event in events if event.type == EV_EFI_VARIABLE_DRIVER_CONFIG],
        "evidence": files,
        "reference": [(folder / "reference.json").read_bytes()],
        "profile": [(folder / "firmware.json").read_bytes()],
        "policy": [json.dumps({"minimum_image_version": 1, "microcode": {"000306a9": 1}}).encode()],
        "certificate": [ssl.PEM_cert_to_DER_cert(certificate.read_text())] if certificate.exists() else [],
        "image": [_image()],
        "message": [encode(message)[4:]],
        "minutiae": [bytes(touch)],
        "bit-group": [bit_group({PRIMARY_FINGER: FingerReference(b"")})],
        "sensor": [bytes(frame(Kind.WAITING, 7) + frame(Kind.TEMPLATE, 7, touch))],
    }


def _image() -> bytes:
    """Return the least PE32+ image that has an Authenticode digest: headers and one section."""
    data = bytearray(1024)
    data[:2], data[0x80:0x84] = b"MZ", b"PE\0\0"
    struct.pack_into("<I", data, 0x3C, 0x80)
    struct.pack_into("<H12xH", data, 0x86, 1, 240)
    struct.pack_into("<H", data, 0x98, 0x20B)
    struct.pack_into("<I", data, 0x98 + 60, 0x200)
    struct.pack_into("<I", data, 0x98 + 108, 16)
    struct.pack_into("<8sIIII", data, 0x98 + 240, b".linux", 0x200, 0x1000, 0x200, 0x200)
    return bytes(data)


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return float(pages * resource.getpagesize())
