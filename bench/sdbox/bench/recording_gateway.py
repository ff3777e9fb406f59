"""The gateway, keeping each piece of evidence it is shown: `python -m sdbox.bench.recording_gateway CONFIG FOLDER`.

For the recorded corpus only. It judges as the real one does; what it keeps holds no secret: a quote, keys, a log.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import signal
import sys
from pathlib import Path

from sdbox.attestation.evidencefile import EvidenceFile, write_evidence
from sdbox.gateway.config import Config, load_config
from sdbox.gateway.server import Server, services_for
from sdbox.gateway.store import Store
from sdbox.gateway.verifier import Fresh, Judgement, Verifier
from sdbox.protocol.values import Evidence


class RecordingVerifier(Verifier):
    """Writes `NUMBER.json` into `folder` before it judges."""

    def __init__(self, config: Config, folder: Path) -> None:
        super().__init__(config.references, config.policy, config.firmware)
        self._folder = folder
        self._numbers = itertools.count(1)

    async def judge(self, evidence: Evidence, fresh: Fresh) -> Judgement:
        """Keep the evidence whole: a reader never finds half a file."""
        data = write_evidence(EvidenceFile(evidence, fresh.nonce, fresh.exporter, fresh.box_id))
        path = self._folder / f"{next(self._numbers)}.json"
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.rename(path)
        return await super().judge(evidence, fresh)


async def serve(config: Config, folder: Path) -> None:
    """Serve until SIGTERM."""
    store = Store(config.database)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    services = await services_for(config, store)
    boxes = dataclasses.replace(services.boxes, verifier=RecordingVerifier(config, folder))
    try:
        await Server(config, dataclasses.replace(services, boxes=boxes)).serve(stop)
    finally:
        store.close()


if __name__ == "__main__":
    asyncio.run(serve(load_config(Path(sys.argv[1])), Path(sys.argv[2])))
