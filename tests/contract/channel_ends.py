"""A channel and, at the other end of a real TLS connection, a gateway whose every word a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.channel.channel import Channel
from sdbox.protocol import messages as m
from sdbox.protocol.states import ChannelState
from sdbox.protocol.values import BoxId, Evidence
from tests.contract.tls_peer import NAME, Files, Peer, listening
from tests.unit.channel_certificates import Authority

NONCE = bytes(32)
BOX = BoxId.parse("00000000-0000-4000-8000-000000000001")
GRANT = m.GrantMessage(
    session="0123-abcd",
    project="atlas",
    endpoints=("203.0.113.10:51821",),
    peer_public=bytes(32),
    preshared=bytes(32),
    address="10.64.1.2/32",
    allowed=("10.64.1.1/32",),
    desktop_host="10.64.1.1",
    desktop_port=3389,
    desktop_certificate_sha256="0" * 64,
    desktop_user="u0",
    desktop_secret="s" * 32,
    lease=15,
    nonce=NONCE,
)
CHALLENGE = m.Challenge(NONCE, b"id", b"secret", b"name", (4, 7, 11))
ATTESTED = m.Attested("ear", 300, NONCE)
REACHABLE = [ChannelState.NEW, ChannelState.CHALLENGED, ChannelState.ATTESTED, ChannelState.OFFERED]


class PaperProver:
    """A TPM that gives fixed answers: the wire is tested here, not the quote."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def ak_name(self) -> bytes:
        return b"\x00\x0b" + bytes(32)

    async def activate(self, *_: bytes) -> bytes:
        await self.go_on.wait()
        return bytes(32)

    async def evidence(self, nonce: bytes, exporter: bytes, pcrs: Sequence[int]) -> Evidence:
        return Evidence(nonce, exporter, b"", b"", dict.fromkeys(pcrs, b""))


class Signer:
    """A software container."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        certificate = Authority().project(self.key.public_key(), "atlas")
        self.chain = (certificate.public_bytes(Encoding.DER),)

    async def sign(self, _schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        return 0x0403, self.key.sign(content, ec.ECDSA(hashes.SHA256()))


SIGNER = Signer()
ITEM = m.OfferItem("atlas", "Atlas", "Atlas", None, sha256(SIGNER.chain[0]).digest())
OFFERS = m.Offers((ITEM,), NONCE)


class Ends:
    """A channel and the gateway's end of it."""

    def __init__(self, channel: Channel, peer: Peer) -> None:
        self.channel, self.peer = channel, peer
        self.prover, self.signer = PaperProver(), SIGNER
        self.waiting: asyncio.Task[object] | None = None

    async def reach(self, state: ChannelState) -> None:
        """Go the honest way up to `state`; in CHALLENGED the prover holds the box up."""
        order = REACHABLE.index(state)
        if order == 1:
            self.prover.go_on.clear()
        if order >= 1:
            self.waiting = asyncio.create_task(self.channel.attest(BOX, self.prover))
            assert isinstance(await self.peer.hear(), m.Hello)
            await self.peer.say(CHALLENGE)
        if order >= 2 and self.waiting is not None:
            await self.peer.hear()
            await self.peer.hear()
            await self.peer.say(ATTESTED)
            await asyncio.wait_for(self.waiting, 5)
        if order >= 3:
            offers = asyncio.create_task(self.channel.prove_card(self.signer.chain, self.signer))
            assert isinstance(await self.peer.hear(), m.CardProof)
            await self.peer.say(OFFERS)
            await offers

    async def first_event(self) -> object:
        async with asyncio.timeout(5):
            return await anext(self.channel.events())


@asynccontextmanager
async def ends_of(folder: Path) -> AsyncIterator[Ends]:
    files = Files(folder)
    async with listening(*files.server(NAME)) as (endpoint, peers):
        channel = await Channel.connect(endpoint, server_name=NAME, ca_file=files.ca_file)
        ends = Ends(channel, await asyncio.wait_for(peers.get(), 5))
        try:
            yield ends
        finally:
            await channel.close()
            if ends.waiting is not None:
                ends.waiting.cancel()  # its prover may be holding it up
                await asyncio.gather(ends.waiting, return_exceptions=True)
            ends.peer.stream.abort()


def run(folder: Path, work: Callable[[Ends], Coroutine[None, None, None]]) -> None:
    async def way() -> None:
        async with ends_of(folder) as ends:
            await work(ends)

    asyncio.run(way())
