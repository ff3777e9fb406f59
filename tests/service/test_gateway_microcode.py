"""Microcode at a running gateway: the centre's minimum refuses the box, a bubble's own keeps it out of that bubble."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sdbox.boot.microcode import MICROCODE_PCR, Microcode, encode_microcode
from sdbox.boot.notes import with_notes
from sdbox.protocol.reasons import Reason, Refusal
from tests.service.gateway_bench import Bench, card, running_bench
from tests.service.gateway_site import Gateway, running_gateway

MEASURED = Microcode(0x306A9, 0x21)
EVENT = encode_microcode(MEASURED)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A box whose TPM and log hold what the initrd measures of the processor."""
    with running_bench(tmp_path_factory.mktemp("gateway")) as running:
        box = running.box
        extension = f"{MICROCODE_PCR}:sha256={hashlib.sha256(EVENT).hexdigest()}"
        subprocess.run(["tpm2_pcrextend", "--tcti", box.tcti, extension], check=True, capture_output=True, timeout=30)
        notes = f"{MICROCODE_PCR} 9 {EVENT.hex()}\n".encode()
        box.event_log.write_bytes(with_notes(box.event_log.read_bytes(), notes))
        yield running


def wanting(folder: Path, least: dict[str, int]) -> str:
    path = folder / "policy.json"
    path.write_text(json.dumps({"microcode": least}))
    return str(path)


def noted(gateway: Gateway, **wanted: str) -> dict[str, str]:
    """Return the one entry of the record with these fields."""
    (entry,) = [entry for entry in gateway.events() if wanted.items() <= entry.items()]
    return entry


async def attest(bench: Bench, gateway: Gateway) -> None:
    async with bench.attested(gateway):
        pass


@pytest.mark.parametrize("least", [{MEASURED.name: 0x22}, {"000306c3": 1}, {}], ids=["newer", "another", "none"])
def test_a_box_below_the_centre_s_minimum_is_refused(bench: Bench, tmp_path: Path, least: dict[str, int]) -> None:
    with running_gateway(bench.site, policy=wanting(tmp_path, least)) as gateway:
        with pytest.raises(Refusal) as caught:
            asyncio.run(attest(bench, gateway))
        assert caught.value.reason is Reason.BOX_MICROCODE
        assert noted(gateway, event="refused")["detail"] == "27:microcode (000306a9:0x21)"


def test_a_box_at_the_minimum_is_let_in_and_its_revision_recorded(bench: Bench, tmp_path: Path) -> None:
    with running_gateway(bench.site, policy=wanting(tmp_path, {MEASURED.name: 0x21})) as gateway:
        asyncio.run(attest(bench, gateway))
        assert noted(gateway, event="attested")["remarks"] == "000306a9:0x21"


async def enter(bench: Bench, gateway: Gateway) -> None:
    signer = bench.container("atlas")
    async with bench.attested(gateway) as channel:
        await channel.prove_card(card(signer), signer)
        await channel.open("atlas", os.urandom(32), signer)


def test_a_bubble_may_ask_for_more_than_the_centre(bench: Bench, tmp_path: Path) -> None:
    policy = wanting(tmp_path, {MEASURED.name: 0x21})
    same, more = (replace(bench.site, needs=f"[bubble.box.microcode]\n000306a9 = {least}") for least in (0x21, 0x22))
    with running_gateway(same, policy=policy) as gateway:
        asyncio.run(enter(bench, gateway))
    with running_gateway(more, policy=policy) as gateway:
        with pytest.raises(Refusal) as caught:
            asyncio.run(enter(bench, gateway))
        assert caught.value.reason is Reason.PROJECT_DEVICE
        assert noted(gateway, reason="project-device")["detail"] == "microcode"
