"""A TLS server on loopback whose every word a test decides, and a channel connected to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sdbox.protocol import messages as m
from sdbox.protocol.tls import TlsStream, server_context
from sdbox.protocol.wire import decode_to_gateway, encode
from tests.unit.channel_certificates import Authority

NAME = "gateway.sdbox.test"
HEAR_SECONDS = 10.0


@dataclass
class Files:
    """A server's certificate and key, and the CA file that its clients trust."""

    folder: Path
    authority: Authority = field(default_factory=Authority)

    @property
    def ca_file(self) -> Path:
        path = self.folder / "ca.pem"
        path.write_bytes(self.authority.certificate.public_bytes(Encoding.PEM))
        return path

    def server(self, *names: str, common_name: str = "server", authority: Authority | None = None) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        made = (authority or self.authority).server(key.public_key(), *names, common_name=common_name)
        return self.write(made, key)

    def write(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        paths = self.folder / "server.crt", self.folder / "server.key"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return paths


@dataclass
class Peer:
    """The server's end of one connection."""

    stream: TlsStream

    async def say(self, *messages: m.Message) -> None:
        for message in messages:
            await self.stream.write(encode(message))

    async def hear(self) -> m.ToGateway:
        async with asyncio.timeout(HEAR_SECONDS):
            return decode_to_gateway(await self.stream.read_frame(m.LARGE_FRAME))


@asynccontextmanager
async def listening(certificate: Path, key: Path) -> AsyncIterator[tuple[str, asyncio.Queue[Peer]]]:
    """Serve TLS; yields the endpoint and a queue with the server's end of each connection."""
    peers: asyncio.Queue[Peer] = asyncio.Queue()
    context = server_context(certificate, key)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.put_nowait(Peer(await TlsStream.accept(context, reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}", peers
    finally:
        server.close()
        while not peers.empty():
            peers.get_nowait().stream.abort()
