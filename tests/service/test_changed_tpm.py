"""A box whose TPM is not what it was, against a real gateway that expects the recorded image: what its screen shows and
what the record says. The TPM is fed with the log of the recorded good boot; everything else that could fail is right.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tpm2_pytss as tss

from sdbox.agent.channel.parties import Lost, Renewed
from sdbox.attestation.evidencefile import EvidenceFile
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import Evidence
from tests.service.gateway_box import Box
from tests.service.recorded_box import BOX, OTHER, Desk, powered, running_desk
from tests.service.swtpm_fixture import running_swtpm
from tests.service.tpm_cases import MOVED, before_the_phase, measure, other_firmware, relabelled
from tests.unit.evidence_cases import load

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with running_desk(tmp_path_factory.mktemp("changed"), seconds=3.0) as desk:
        yield desk


@pytest.fixture
def desk(shared: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Each test begins with boxes that never were there."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    shared.forget_clocks()
    return replace(shared, work=tmp_path)


def test_the_box_itself(desk: Desk) -> None:
    with powered(desk.copy()) as box:
        assert desk.shown(box) == ""


def test_a_boot_after_a_power_cut(desk: Desk) -> None:
    state = desk.copy()
    for _ in range(2):
        with powered(state) as box:
            assert desk.shown(box) == ""


def test_a_copy_of_an_earlier_state(desk: Desk) -> None:
    """A thief of the TPM's memory boots his copy: its counters stand where the box's were once."""
    state = desk.copy()
    clone = desk.copy()
    for _ in range(2):
        with powered(state) as box:
            assert desk.shown(box) == ""
    with powered(clone) as box:
        assert desk.shown(box) == "box-evidence"
    assert desk.refusal() == "15:clock"


def test_another_tpm_on_the_board(desk: Desk) -> None:
    with powered(desk.copy("other")) as box:
        assert desk.shown(box) == "box-activation"
    last = desk.gateway.events()[-1]
    assert (last["event"], last["box"], last["detail"]) == ("left", str(BOX), "5:credential without an answer")


def test_a_boot_that_was_measured_elsewhere(desk: Desk) -> None:
    """The agent quotes what it is asked for, so what stands in PCRs 16 and 23 helps nobody."""
    with powered(desk.copy(), moved=MOVED) as box:
        assert desk.shown(box) == "box-evidence"
    assert desk.refusal() == "18:eventlog-replay 22:pcr-4 21:pcr-7"


@pytest.mark.parametrize(
    ("boot", "checks"), [(before_the_phase, "23:pcr-11"), (other_firmware, "25:firmware")], ids=["phase", "firmware"]
)
def test_a_boot_that_is_another_one(desk: Desk, boot: Callable[[EvidenceFile], EvidenceFile], checks: str) -> None:
    """What a program in the initrd could show, before its phase ended; what a box with other firmware shows."""
    with powered(desk.copy(), boot=boot(load("good"))) as box:
        assert desk.shown(box) == "box-image"
    assert desk.refusal() == checks


@dataclass
class Relabeller(Box):
    """An agent that shows PCRs 16 and 23 as 4 and 7."""

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        evidence = await super().evidence(nonce, exporter, relabelled(pcrs))
        back = {moved: index for index, moved in MOVED.items()}
        return replace(evidence, pcrs={back.get(index, index): value for index, value in evidence.pcrs.items()})


@dataclass
class Relay(Box):
    """An agent that opens the credential with its own TPM and passes on what another box says of itself."""

    other: Box | None = None

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        assert self.other is not None
        return await self.other.evidence(nonce, bytes(len(exporter)), pcrs)


def refused(desk: Desk, box: Box) -> Reason:
    """Show the box with the agent's channel and a prover that lies; return the reason that comes back."""

    async def way() -> None:
        channel = await desk.gateway.connect()
        try:
            await channel.attest(box.box_id, box)
        finally:
            await channel.close()

    with pytest.raises(Refusal) as caught:
        asyncio.run(way())
    return caught.value.reason


def test_other_pcrs_under_the_right_names(desk: Desk) -> None:
    with powered(desk.copy(), moved=MOVED) as box:
        assert refused(desk, Relabeller(box.box_id, box.tcti, box.event_log, box.ek_public)) is Reason.BOX_EVIDENCE
    assert desk.refusal().startswith("12:pcr-selection 14:pcr-resettable 13:pcr-values")


def test_the_evidence_of_another_box(desk: Desk) -> None:
    with powered(desk.copy()) as box, powered(desk.copy("other"), OTHER) as other:
        relay = Relay(box.box_id, box.tcti, box.event_log, box.ek_public, other)
        assert refused(desk, relay) is Reason.BOX_EVIDENCE
        assert desk.refusal() == "4:ak-name 11:qualifying-data"
        assert desk.shown(other) == ""  # which is a good box


@pytest.mark.parametrize("way", ["suspended", "reset"])
def test_a_tpm_that_restarts_under_an_open_channel(desk: Desk, way: str) -> None:
    """A suspend keeps the PCRs and is let in; a reset, with the log measured once more, is seen by its counter."""
    state, good, before = desk.copy(), load("good"), len(desk.gateway.events())

    async def scene() -> object:
        channel = await desk.gateway.connect()
        try:
            with powered(state) as box:
                await channel.attest(BOX, box)
                if way == "suspended":
                    with tss.ESAPI(box.tcti) as esapi:
                        esapi.shutdown(tss.TPM2_SU.STATE)
            with running_swtpm(state, resume=way == "suspended") as tcti:
                if way == "reset":
                    measure(tcti, good, {})
                async with asyncio.timeout(10):
                    return await anext(channel.events())
        finally:
            await channel.close()

    event = asyncio.run(scene())
    if way == "suspended":
        assert isinstance(event, Renewed)
        said = [event["event"] for event in desk.gateway.events()[before:]]
        assert said.count("attested") == 2
        assert "refused" not in said
    else:
        assert event == Lost(Reason.BOX_EVIDENCE)
        assert desk.refusal() == "15:reset"
