"""The lab: a campus, a centre with its gateway, and bubbles, on one host, as one context manager.

with Lab(image.reference, golden_rules(image)) as lab:
    tpm = manufacture(...)
    lab.gateway.enrol(box, tpm)
    with Machine(MachineSpec(..., uuid=box, tpm=tpm, nic=lab.network.add_tap())) as machine: ...
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from sdbox.bench.bubble import BENCH_BUBBLES, Bubble, BubbleSpec
from sdbox.bench.lab_gateway import GatewayProcess, GatewaySettings, Rules
from sdbox.bench.lab_wireguard import peers
from sdbox.bench.network import Network
from sdbox.host.pki import ensure_development_pki
from sdbox.host.workfolder import work_prefix


class Lab:
    """Everything around a box. Parts: `network`, `bubbles` (by project), `gateway`; `work` has all logs."""

    def __init__(
        self,
        reference: Path,
        rules: Rules | None = None,
        *,
        bubbles: Sequence[BubbleSpec] = BENCH_BUBBLES,
        keep: Path | None = None,
    ) -> None:
        """`reference`: of the images let in; `rules`: of the box beyond its image, any box if there are none.

        `keep`: logs are copied there when the lab ends.
        """
        self.work = Path(tempfile.mkdtemp(prefix=work_prefix("lab")))
        self.network = Network(self.work, [spec.project for spec in bubbles])
        self.bubbles = {spec.project: Bubble(spec, self.network, self.work) for spec in bubbles}
        settings = GatewaySettings.development(ensure_development_pki(), reference, rules)
        self.gateway = GatewayProcess(settings, self.network.centre, list(self.bubbles.values()), self.work)
        self._keep = keep
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._remove_work)
            stack.enter_context(self.network)
            for bubble in self.bubbles.values():
                stack.enter_context(bubble)
            stack.callback(self.gateway.stop)
            self.gateway.start()
            self._stack = stack.pop_all()
        return self

    def peers(self) -> int:
        """Return how many boxes have a tunnel into a bubble now, asked of the tunnels themselves."""
        return sum(len(peers(bubble.control_socket)) for bubble in self.bubbles.values())

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _remove_work(self) -> None:
        if self._keep is not None:
            for log in self.work.rglob("*.log"):
                target = self._keep / log.relative_to(self.work)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(log, target)
        shutil.rmtree(self.work)
