"""A gateway that expects the recorded image, and boxes whose software TPMs are fed with the log of its good boot."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sdbox.agent.machine import State
from sdbox.attestation.evidencefile import EvidenceFile
from sdbox.attestation.tpm import open_tpm
from sdbox.gateway.passes import Passes
from sdbox.gateway.store import Store
from sdbox.protocol.values import BoxId
from tests.service.agent_bench import NoTunnel, running_agent
from tests.service.gateway_bench import Bench
from tests.service.gateway_box import Box
from tests.service.gateway_site import Gateway, Site, running_gateway, running_tunnels
from tests.service.swtpm_fixture import endorsement_pem, manufacture, running_swtpm
from tests.service.tpm_cases import measure
from tests.service.uapi_fake import Peers
from tests.unit.evidence_cases import FOLDER, load

BOX = BoxId.parse("5db0c0de-0000-4000-8000-00000000000a")
OTHER = BoxId.parse("5db0c0de-0000-4000-8000-00000000000b")


@dataclass
class Desk:
    """A gateway that expects the recorded image, the TPM of the box that it knows, and another box's."""

    gateway: Gateway
    tunnels: dict[str, Peers]
    folder: Path
    work: Path

    def forget_clocks(self) -> None:
        store = Store(f"sqlite:///{self.folder / 'gateway.sqlite'}")
        for box_id in (BOX, OTHER):
            Passes(store).forget(box_id)
        store.close()

    def enrol(self, name: str, box_id: BoxId) -> None:
        """Put a box with the TPM `name` on the inventory."""
        with running_swtpm(self.folder / name) as tcti, open_tpm(tcti) as tpm:
            (self.folder / f"{name}.pem").write_text(endorsement_pem(tpm))
        self.gateway.enrol(Box(box_id, "", self.folder / "log", self.folder / f"{name}.pem"))

    def copy(self, name: str = "tpm") -> Path:
        """Return a TPM just as it left the factory: `tpm` is the box's, `other` that of another enrolled box."""
        target = self.work / f"{name}-{len(list(self.work.iterdir()))}"
        shutil.copytree(self.folder / name, target)
        return target

    def with_box(self, box: Box) -> Bench:
        return Bench(self.gateway, box, self.tunnels)

    def refusal(self) -> str:
        """Return the checks with which the record refuses a box last."""
        return [event.get("detail", "") for event in self.gateway.events() if event["event"] == "refused"][-1]

    def shown(self, box: Box) -> str:
        """Run the agent on this box until it is let in or refused; return the reason that its screen shows."""

        async def scene() -> str:
            async with running_agent(self.with_box(box), self.work, lambda _: NoTunnel()) as agent:
                await agent.until(State.INSERT_CARD, State.REFUSED_LINK)
                return agent.view.reason

        return asyncio.run(scene())


@contextmanager
def running_desk(folder: Path, *, seconds: float) -> Iterator[Desk]:
    """Manufacture two TPMs, start the gateway, enrol both; results last so many `seconds`."""
    manufacture(folder / "tpm")
    manufacture(folder / "other")
    site = replace(Site.make(folder), reference=(FOLDER / "reference.json").read_text())
    site.settings["firmware"] = [str(FOLDER / "firmware.json")]
    with running_tunnels(site) as tunnels, running_gateway(site, result_seconds=seconds) as gateway:
        desk = Desk(gateway, tunnels, folder, folder)
        desk.enrol("tpm", BOX)
        desk.enrol("other", OTHER)
        yield desk


@contextmanager
def powered(
    state: Path, box_id: BoxId = BOX, *, moved: dict[int, int] | None = None, boot: EvidenceFile | None = None
) -> Iterator[Box]:
    """Power the TPM on and measure a `boot` into it, the recorded good one; it loses its power without a shutdown."""
    boot = boot or load("good")
    log = state.parent / "log"
    log.write_bytes(boot.evidence.event_log)
    with running_swtpm(state) as tcti:
        measure(tcti, boot, moved or {})
        yield Box(box_id, tcti, log, log)
