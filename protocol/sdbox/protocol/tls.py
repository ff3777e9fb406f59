"""TLS 1.3 over asyncio with what the standard library lacks, the exporter and a required hybrid group; for both ends.

pyOpenSSL works on memory buffers here and asyncio carries the bytes. Only `X25519MLKEM768` is offered and accepted, so
recorded traffic stays safe from a later quantum computer; the group is checked again after the handshake. Nothing
resumes a session: each connection proves everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, Self, TypeVar

from OpenSSL import SSL
from OpenSSL._util import lib as _openssl

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.wire import frame_length

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_T = TypeVar("_T")
GROUP: Final = "X25519MLKEM768"
HANDSHAKE_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 1.0
_RECORD: Final = 16384  # RFC 8446, 5.1: a read never gives more
# OpenSSL x509v3.h: no wildcards, and the subject's common name is never looked at.
_HOST_FLAGS: Final = 0x2 | 0x20


class StreamClosedError(Exception):
    """The peer closed the connection, or it broke: nothing more can be read or written."""


def server_context(certificate: Path, key: Path) -> SSL.Context:
    """Return the gateway's settings: PEM chain and key. OSError or ValueError if they cannot be used."""
    context = _context()
    try:
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
    except SSL.Error as error:
        raise ValueError(f"certificate or key unusable: {certificate}, {key}") from error
    return context


def client_context(ca_file: Path, server_name: str) -> SSL.Context:
    """Return the box's settings: the chain must end at `ca_file`, the certificate must carry DNS name `server_name`."""
    context = _context()
    try:
        context.load_verify_locations(str(ca_file))
    except SSL.Error as error:
        raise Refusal(Reason.GATEWAY_UNTRUSTED, f"trust anchor unusable: {ca_file}") from error
    context.set_verify(SSL.VERIFY_PEER)
    name = server_name.encode("ascii")
    # pyOpenSSL has no public call for the name check; OpenSSL's own runs inside the chain verification.
    parameters = _openssl.SSL_CTX_get0_param(context._context)  # noqa: SLF001 - see above
    _openssl.X509_VERIFY_PARAM_set_hostflags(parameters, _HOST_FLAGS)
    if _openssl.X509_VERIFY_PARAM_set1_host(parameters, name, len(name)) != 1:
        raise ValueError("server name cannot be checked")
    return context


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    # OP_NO_TICKET alone still sends two tickets and resumes (OpenSSL keeps stateful ones in its cache).
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # No public call restricts the groups either, and an unrestricted server may fall back to X25519 alone.
    if _openssl.SSL_CTX_set1_curves_list(context._context, GROUP.encode()) != 1:  # noqa: SLF001 - see above
        raise ValueError(f"OpenSSL without {GROUP}")
    return context


def parse_endpoint(text: str) -> tuple[str, int]:
    """Split "address:port" or "[v6]:port"; ValueError otherwise."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise ValueError(f"not address:port: {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


class TlsStream:
    """One TLS connection after a complete, checked handshake. One task reads; any task of the loop may write."""

    def __init__(self, connection: SSL.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()

    @classmethod
    async def connect(cls, endpoint: str, *, server_name: str, ca_file: Path) -> Self:
        """Connect as the box. Refusal GATEWAY_UNREACHABLE (network, time) or GATEWAY_UNTRUSTED (TLS, name, chain)."""
        context = client_context(ca_file, server_name)
        host, port = parse_endpoint(endpoint)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                reader, writer = await asyncio.open_connection(host, port)
                connection = SSL.Connection(context, None)
                connection.set_tlsext_host_name(server_name.encode("ascii"))
                connection.set_connect_state()
                return await cls._handshaken(connection, reader, writer)
        except TimeoutError as error:
            raise Refusal(Reason.GATEWAY_UNREACHABLE, "no TLS connection within its deadline") from error
        except (OSError, StreamClosedError) as error:
            raise Refusal(Reason.GATEWAY_UNREACHABLE, f"no connection: {type(error).__name__}") from error
        except SSL.Error as error:
            raise Refusal(Reason.GATEWAY_UNTRUSTED, _why(error)) from error

    @classmethod
    async def accept(cls, context: SSL.Context, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Self:
        """Serve an accepted connection. StreamClosedError if the handshake fails or passes its deadline."""
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await cls._handshaken(connection, reader, writer)
        except (TimeoutError, OSError, SSL.Error) as error:
            raise StreamClosedError(f"TLS handshake failed: {type(error).__name__}") from error

    @classmethod
    async def _handshaken(
        cls, connection: SSL.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Self:
        """Complete the handshake before anything else: the server's exporter works too early, RFC 8446 section 7.5."""
        stream = cls(connection, reader, writer)
        try:
            _tune(writer)
            await stream._drive(connection.do_handshake)
            _check_negotiated(connection)
        except BaseException:
            writer.transport.abort()
            raise
        return stream

    @property
    def peer_address(self) -> str:
        name = self._writer.get_extra_info("peername")
        return str(name[0]) if name else "unknown"

    @property
    def hash_name(self) -> str:
        """The cipher suite's hash as `hashlib` calls it."""
        name = self._connection.get_cipher_name() or ""
        return {"SHA256": "sha256", "SHA384": "sha384"}[name.rpartition("_")[2]]

    def export(self, label: bytes, size: int) -> bytes:
        """Return keying material bound to this connection, RFC 8446 section 7.5, with an empty context."""
        return self._connection.export_keying_material(label, size, b"")

    async def read_frame(self, limit: int) -> bytes:
        """Return one frame's body. WireError if longer than `limit`, StreamClosedError at the end. Safe to cancel."""
        await self._fill(4)
        length = frame_length(bytes(self._buffer[:4]), limit)
        await self._fill(4 + length)
        body = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return body

    async def write(self, data: bytes) -> None:
        """Send all of `data`. StreamClosedError if the connection is gone; the caller sets the deadline."""
        try:
            self._connection.sendall(data)
            self._flush()
            await self._writer.drain()
        except (SSL.Error, OSError) as error:
            raise StreamClosedError("connection lost") from error

    async def close(self) -> None:
        """Say goodbye (close_notify) and release the socket; never raises, never waits longer than a second."""
        with contextlib.suppress(SSL.Error, OSError, TimeoutError):
            self._connection.shutdown()
            self._flush()
            self._writer.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    def abort(self) -> None:
        """Drop the connection at once, without a word."""
        self._writer.transport.abort()

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            try:
                self._buffer += await self._drive(lambda: self._connection.recv(_RECORD))
            except (SSL.Error, OSError) as error:
                raise StreamClosedError("connection closed") from error

    async def _drive(self, step: Callable[[], _T]) -> _T:
        """Run `step` until it no longer asks for input. What it wrote is sent each time, also when it fails: alerts."""
        while True:
            try:
                return step()
            except SSL.WantReadError:
                pass
            finally:
                self._flush()
            data = await self._reader.read(_RECORD)
            if data:
                self._connection.bio_write(data)
            else:
                self._connection.bio_shutdown()

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while True:
                self._writer.write(self._connection.bio_read(1 << 16))


def _check_negotiated(connection: SSL.Connection) -> None:
    if (connection.get_protocol_version_name(), connection.get_group_name()) != ("TLSv1.3", GROUP):
        raise SSL.Error("wrong protocol version or group")


def _tune(writer: asyncio.StreamWriter) -> None:
    """No Nagle delay; notice a dead peer by the system's own probes within half a minute."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _why(error: SSL.Error) -> str:
    """The last entry of OpenSSL's error queue in its own words; nothing of the peer's input is in it."""
    entries = error.args[0] if error.args else ()
    return str(entries[-1][2]) if isinstance(entries, list) and entries else "TLS handshake refused"
