"""A gateway, its bubbles' tunnels, a box with a real TPM, and cards whose keys are software.

Everything is real but the tunnels' far end: a fake that speaks wireguard-go's control protocol, which
tests/contract/test_gateway_wireguard.py holds against the real one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.channel.channel import Channel
from sdbox.protocol.values import Grant
from tests.service.gateway_box import Box, running_box
from tests.service.gateway_site import Gateway, Site, running_gateway, running_tunnels
from tests.service.uapi_fake import Peers
from tests.unit.channel_certificates import Authority

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass
class SoftSigner:
    """A container whose key is software. It is a `Signer`."""

    key: PrivateKey
    chain: tuple[bytes, ...]

    async def sign(self, schemes: Sequence[int], content: bytes) -> tuple[int, bytes]:
        if isinstance(self.key, rsa.RSAPrivateKey):
            assert 0x0804 in schemes
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            return 0x0804, self.key.sign(content, pss, hashes.SHA256())
        if isinstance(self.key.curve, ec.SECP384R1):
            return 0x0503, self.key.sign(content, ec.ECDSA(hashes.SHA384()))
        return 0x0403, self.key.sign(content, ec.ECDSA(hashes.SHA256()))


def container(
    authority: Authority, *projects: str, key: PrivateKey | None = None, days: float = 0, signs: bool = True
) -> SoftSigner:
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = authority.project(key.public_key(), *projects, days=days, signs=signs)
    return SoftSigner(key, (certificate.public_bytes(Encoding.DER),))


def card(*signers: SoftSigner) -> tuple[bytes, ...]:
    return tuple(signer.chain[0] for signer in signers)


def serial(signer: SoftSigner) -> str:
    return f"{x509.load_der_x509_certificate(signer.chain[0]).serial_number:x}"


class Bench:
    """A gateway, its bubbles' tunnels, a box and a card CA."""

    def __init__(self, gateway: Gateway, box: Box, tunnels: dict[str, Peers]) -> None:
        self.gateway, self.box, self.tunnels = gateway, box, tunnels

    @property
    def site(self) -> Site:
        return self.gateway.site

    def container(self, project: str) -> SoftSigner:
        return container(self.site.cards, project)

    def peers(self) -> int:
        return sum(len(peers) for peers in self.tunnels.values())

    def logins(self, project: str) -> list[str]:
        lines = self.site.sam_file(project).read_text().splitlines()
        return [line for line in lines if not line.startswith("#")]

    @asynccontextmanager
    async def attested(self, gateway: Gateway | None = None) -> AsyncIterator[Channel]:
        channel = await (gateway or self.gateway).connect()
        try:
            await channel.attest(self.box.box_id, self.box)
            yield channel
        finally:
            await channel.close()

    @asynccontextmanager
    async def opened(self, gateway: Gateway | None = None) -> AsyncIterator[tuple[Channel, Grant, SoftSigner]]:
        signer = self.container("atlas")
        async with self.attested(gateway) as channel:
            await channel.prove_card(card(signer), signer)
            yield channel, await channel.open("atlas", os.urandom(32), signer), signer


@contextmanager
def running_bench(folder: Path, *, fresh: tuple[str, ...] = ()) -> Iterator[Bench]:
    """Start everything; the box is enrolled. `fresh`: the projects whose bubble wants a fresh finger."""
    site = replace(Site.make(folder), fresh=fresh)
    with ExitStack() as stack:
        tunnels = stack.enter_context(running_tunnels(site))
        box = stack.enter_context(running_box(folder / "box"))
        gateway = stack.enter_context(running_gateway(site))
        gateway.enrol(box)
        yield Bench(gateway, box, tunnels)


async def until(what: str, question: Callable[[], bool], limit: float = 5.0) -> float:
    """Wait for `question` to become true; returns the seconds it took."""
    start = time.monotonic()
    while not question():
        assert time.monotonic() - start < limit, f"waited {limit} s for {what}"
        await asyncio.sleep(0.01)  # between two looks of a wait with a deadline
    return time.monotonic() - start
