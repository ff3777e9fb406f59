"""The way to the centre: find it, prove what this box is, notice when that ends, and begin again.

Evidence goes out before any card is looked at, so the wait is hidden in the boot. A refusal is tried again too, slowly:
once an operator has enrolled the box or put the gateway right, the box heals without anyone touching it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from sdbox.agent import journal
from sdbox.agent.channel.channel import Channel
from sdbox.agent.channel.parties import Lost, Renewed, Revoked
from sdbox.agent.config import GatewaySite
from sdbox.agent.events import Attested, Event, LinkLost, LinkRefused, LinkUp, SessionRevoked
from sdbox.attestation.evidence import EVENT_LOG, Request, collect
from sdbox.attestation.tpm import Tpm, open_tpm, require_tpm
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.tls import parse_endpoint
from sdbox.protocol.values import AttestationResult, BoxId, Evidence

_T = TypeVar("_T")

PATIENCE_SECONDS: Final = 10.0  # until an unreachable centre is called refused: DHCP and a gateway's restart are normal
UNREACHABLE_RETRY: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
REFUSED_RETRY: Final = 20.0
LOST_RETRY: Final = 0.5
LATE_SECONDS: Final = 5.0  # the gateway's clock comes first: its word on why is the better one
PASSING: Final = {Reason.GATEWAY_UNREACHABLE, Reason.BOX_TPM_BUSY}  # what ends by itself: told when it lasts


class TpmProver:
    """The TPM behind one thread: each call is slow and none may overlap another. Opened at first use and kept."""

    def __init__(self, box_id: BoxId, *, tcti: str | None = None, event_log: Path = EVENT_LOG) -> None:
        self._box_id = box_id
        self._tcti = tcti
        self._event_log = event_log
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tpm")
        self._open = contextlib.ExitStack()
        self._tpm: Tpm | None = None

    def require(self) -> None:
        """Refusal(BOX_TPM_ABSENT) without a TPM: no network is needed to see that."""
        require_tpm(self._tcti)

    async def ak_name(self) -> bytes:
        return await self._run(lambda tpm: tpm.ak_name())

    async def activate(self, id_object: bytes, encrypted_secret: bytes, ek_name: bytes) -> bytes:
        return await self._run(lambda tpm: tpm.activate(id_object, encrypted_secret, ek_name))

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        request = Request(nonce, exporter, tuple(pcrs))
        return await self._run(lambda tpm: collect(tpm, request, self._box_id, self._event_log))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[Tpm], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._with_tpm, work)

    def _with_tpm(self, work: Callable[[Tpm], _T]) -> _T:
        try:
            if self._tpm is None:
                self._tpm = self._open.enter_context(open_tpm(self._tcti))
            return work(self._tpm)
        except Refusal:
            self._forget()  # the next attempt starts with a fresh connection
            raise

    def _forget(self) -> None:
        self._tpm = None
        with contextlib.suppress(Refusal):
            self._open.close()


class CentreLink:
    """Keeps one attested channel to the centre. `channel` is None whenever there is none."""

    def __init__(self, site: GatewaySite, box_id: BoxId, prover: TpmProver, post: Callable[[Event], None]) -> None:
        self.channel: Channel | None = None
        self._site = site
        self._box_id = box_id
        self._prover = prover
        self._post = post
        self._hurry = asyncio.Event()
        self._attempts = 0
        self._since = time.monotonic()
        self._routed = False
        self._told = False

    async def run(self) -> None:
        """Connect, attest, follow, again; ends only when cancelled."""
        while True:
            try:
                channel, result = await self._attested()
            except Refusal as refusal:
                await self._pause(self._refused(refusal))
                continue
            self._attempts = 0
            try:
                reason = await self._follow(channel, result)
            finally:
                self.channel = None
                await channel.close()
            self._since = time.monotonic()
            self._post(LinkLost(reason))
            await self._pause(LOST_RETRY)

    def hurry(self) -> None:
        """Try again now: the user asked."""
        self._hurry.set()

    async def _attested(self) -> tuple[Channel, AttestationResult]:
        self._prover.require()
        endpoint = self._site.endpoints[self._attempts % len(self._site.endpoints)]
        self._attempts += 1
        if not has_route(endpoint):
            raise Refusal(Reason.GATEWAY_UNREACHABLE, "no route to the centre")
        if not self._routed:
            self._routed = True
            journal.phase("network")
        channel = await Channel.connect(endpoint, server_name=self._site.name, ca_file=Path(self._site.ca))
        try:
            journal.phase("tls")
            self._post(LinkUp())
            result = await channel.attest(self._box_id, self._prover)
        except BaseException:
            await channel.close()
            raise
        journal.phase("attested")
        self.channel = channel
        self._post(Attested())
        return channel, result

    async def _follow(self, channel: Channel, result: AttestationResult) -> Reason:
        """Pass on what the gateway does on its own until the channel is over; return why it is.

        RESULT_LAPSED if it does not ask for fresh evidence in time: a gateway that fell silent keeps nobody attested.
        """
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(result.seconds + LATE_SECONDS) as lapse:
                async for event in channel.events():
                    match event:
                        case Renewed(result):
                            lapse.reschedule(clock() + result.seconds + LATE_SECONDS)
                        case Revoked(session, reason):
                            self._post(SessionRevoked(session, reason))
                        case Lost(reason):
                            return reason
        except TimeoutError:
            return Reason.RESULT_LAPSED
        return Reason.GATEWAY_UNREACHABLE

    def _refused(self, refusal: Refusal) -> float:
        """Tell the state machine, in time, and return how long to wait before the next attempt."""
        if refusal.reason is not Reason.GATEWAY_UNREACHABLE:
            journal.explain(refusal)
        if refusal.reason not in PASSING:
            self._post(LinkRefused(refusal.reason))
            return REFUSED_RETRY
        # Waiting for a route looks several times a second; it is told once.
        if time.monotonic() - self._since > PATIENCE_SECONDS and (self._routed or not self._told):
            self._told = True
            self._post(LinkRefused(refusal.reason))
        if not self._routed:
            return UNREACHABLE_RETRY[0]
        return UNREACHABLE_RETRY[min(self._attempts, len(UNREACHABLE_RETRY)) - 1]

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()


def has_route(endpoint: str) -> bool:
    """Whether the kernel knows a way to `endpoint` ("address:port"). Sends nothing: UDP connect(2) only looks it up."""
    host, port = parse_endpoint(endpoint)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect((host, port))
        except OSError as error:
            if error.errno not in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}:
                raise Refusal(
                    Reason.GATEWAY_UNREACHABLE, f"no route: {errno.errorcode.get(error.errno or 0)}"
                ) from error
            return False
    return True
