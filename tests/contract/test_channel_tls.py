"""The TLS stream's promises, over loopback: whom it trusts, what it binds, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL._util import lib as openssl

from sdbox.protocol import tls
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.tls import GROUP, StreamClosedError, TlsStream, parse_endpoint
from sdbox.protocol.wire import WireError
from tests.contract.tls_peer import NAME, Files, Peer, listening
from tests.unit.channel_certificates import Authority


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def connected(files: Files, work: Callable[[TlsStream, Peer], object], *names: str) -> None:
    """Run the coroutine function `work` on both ends of a connection."""

    async def way() -> None:
        async with listening(*files.server(*names or (NAME,))) as (endpoint, peers):
            box = await TlsStream.connect(endpoint, server_name=NAME, ca_file=files.ca_file)
            peer = await asyncio.wait_for(peers.get(), 5)
            outcome = work(box, peer)
            assert asyncio.iscoroutine(outcome)
            await outcome
            box.abort()
            peer.stream.abort()

    asyncio.run(way())


def address_of(sock: socket.socket | TransportSocket) -> str:
    host, port = sock.getsockname()
    return f"{host}:{port}"


def refusal(files: Files, certificate: Path, key: Path) -> Refusal:
    async def way() -> None:
        async with listening(certificate, key) as (endpoint, _):
            await TlsStream.connect(endpoint, server_name=NAME, ca_file=files.ca_file)

    with pytest.raises(Refusal) as caught:
        asyncio.run(way())
    return caught.value


def test_both_ends_export_the_same_and_each_connection_another(files: Files) -> None:
    seen = []

    async def work(box: TlsStream, peer: Peer) -> None:
        assert box.export(b"EXPORTER-test", 32) == peer.stream.export(b"EXPORTER-test", 32)
        assert box.export(b"EXPORTER-test", 32) != box.export(b"EXPORTER-other", 32)
        assert box.hash_name == peer.stream.hash_name
        seen.append(box.export(b"EXPORTER-test", 32))

    connected(files, work)
    connected(files, work)
    assert len(set(seen)) == 2


def test_the_group_is_the_hybrid_one(files: Files) -> None:
    async def work(box: TlsStream, peer: Peer) -> None:
        assert box._connection.get_group_name() == peer.stream._connection.get_group_name() == GROUP

    connected(files, work)


def test_a_session_is_not_resumed(files: Files) -> None:
    """OpenSSL sends two tickets whatever it is told; the server must not know them again."""

    async def way() -> None:
        async with listening(*files.server(NAME)) as (endpoint, peers):
            context = tls.client_context(files.ca_file, NAME)
            first = await asyncio.to_thread(_session, context, parse_endpoint(endpoint), None)
            again = await asyncio.to_thread(_session, context, parse_endpoint(endpoint), first)
            assert not openssl.SSL_session_reused(again._ssl)
            assert peers.qsize() == 2

    asyncio.run(way())


def _session(context: SSL.Context, address: tuple[str, int], known: SSL.Connection | None) -> SSL.Connection:
    """Connect, offering the session of a `known` connection, and take in the tickets."""
    with socket.create_connection(address, 5) as sock:
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        if known is not None and (session := known.get_session()) is not None:
            connection.set_session(session)
        sock.settimeout(None)
        connection.do_handshake()
        sock.setblocking(False)
        with contextlib.suppress(SSL.WantReadError):
            select.select([sock], [], [], 0.2)
            connection.recv(1)
        return connection


def test_frames_of_any_size_arrive_whole(files: Files) -> None:
    async def work(box: TlsStream, peer: Peer) -> None:
        bodies = [b"x" * size for size in (1, 16384, 16385, 300_000)]
        sending = asyncio.create_task(_write(box, b"".join(len(body).to_bytes(4, "big") + body for body in bodies)))
        for body in bodies:
            assert await peer.stream.read_frame(1 << 20) == body
        await sending

    connected(files, work)


async def _write(stream: TlsStream, data: bytes) -> None:
    await stream.write(data)


def test_a_cancelled_read_loses_nothing(files: Files) -> None:
    async def work(box: TlsStream, peer: Peer) -> None:
        await box.write(b"\0\0\0\4ab")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await peer.stream.read_frame(10)
        await box.write(b"cd")
        assert await peer.stream.read_frame(10) == b"abcd"

    connected(files, work)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_an_end_is_noticed(files: Files, how: str) -> None:
    async def work(box: TlsStream, peer: Peer) -> None:
        if how == "close":
            await box.close()
        else:
            box.abort()
        with pytest.raises(StreamClosedError):
            await peer.stream.read_frame(10)

    connected(files, work)


def test_a_frame_above_the_limit_is_no_frame(files: Files) -> None:
    async def work(box: TlsStream, peer: Peer) -> None:
        await box.write(b"\0\0\1\0")
        with pytest.raises(WireError):
            await peer.stream.read_frame(255)

    connected(files, work)


def test_another_ca_is_not_trusted_even_under_the_same_name(files: Files) -> None:
    assert refusal(files, *files.server(NAME, authority=Authority())).reason is Reason.GATEWAY_UNTRUSTED


@pytest.mark.parametrize("names", [(), ("other.sdbox.test",), ("*.sdbox.test",), (f"{NAME}.evil.test",)])
def test_the_name_must_be_exactly_right(files: Files, names: tuple[str, ...]) -> None:
    """The common name says what the certificate should say, and does not count (RFC 9525, 6.3)."""
    caught = refusal(files, *files.server(*names, common_name=NAME))
    assert caught.reason is Reason.GATEWAY_UNTRUSTED
    assert "hostname" in caught.detail.lower() or "verify" in caught.detail.lower()


def test_a_server_without_the_hybrid_group_is_refused(files: Files) -> None:
    """Python's own TLS is built on an OpenSSL that may lack the group; X25519 alone is what it would offer."""

    async def way() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files.server(NAME))
        context.set_ecdh_curve("prime256v1")
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        endpoint = address_of(server.sockets[0])
        try:
            await TlsStream.connect(endpoint, server_name=NAME, ca_file=files.ca_file)
        finally:
            server.close()

    with pytest.raises(Refusal) as caught:
        asyncio.run(way())
    assert caught.value.reason is Reason.GATEWAY_UNTRUSTED


@pytest.mark.parametrize(("version", "curve"), [(SSL.TLS1_2_VERSION, None), (SSL.TLS1_3_VERSION, ec.SECP256R1())])
def test_a_client_with_less_is_refused(files: Files, version: int, curve: ec.EllipticCurve | None) -> None:
    async def way() -> None:
        async with listening(*files.server(NAME)) as (endpoint, peers):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(version)
            if curve is not None:
                context.set_tmp_ecdh(curve)
            await asyncio.to_thread(_handshake, context, parse_endpoint(endpoint))
            assert peers.empty()

    asyncio.run(way())


def _handshake(context: SSL.Context, address: tuple[str, int]) -> None:
    with socket.create_connection(address, 5) as sock:
        sock.settimeout(None)
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        with pytest.raises(SSL.Error):
            connection.do_handshake()


def test_nobody_there_is_unreachable(files: Files) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(Refusal) as caught:
            asyncio.run(TlsStream.connect(address_of(bound), server_name=NAME, ca_file=files.ca_file))
    assert caught.value.reason is Reason.GATEWAY_UNREACHABLE


def test_a_silent_server_is_unreachable_in_time(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Refusal) as caught:
            asyncio.run(TlsStream.connect(address_of(silent), server_name=NAME, ca_file=files.ca_file))
    assert caught.value.reason is Reason.GATEWAY_UNREACHABLE


@pytest.mark.parametrize("text", ["", "host", ":443", "host:", "host:x", "host:65536", "host:-1"])
def test_an_endpoint_is_an_address_and_a_port(text: str) -> None:
    with pytest.raises(ValueError, match="address:port"):
        parse_endpoint(text)


def test_endpoints_of_both_families() -> None:
    assert parse_endpoint("203.0.113.10:443") == ("203.0.113.10", 443)
    assert parse_endpoint("[2001:db8::1]:443") == ("2001:db8::1", 443)
