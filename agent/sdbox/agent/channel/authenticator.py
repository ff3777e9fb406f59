"""The box's half of the card proof: an exported authenticator (RFC 9261, section 5) that the card signs.

It needs no new handshake, so several containers of a card can prove themselves on one warm connection.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdbox.protocol.authenticator_request import CertificateRequest
    from sdbox.protocol.tls import TlsStream

Sign = Callable[[Sequence[int], bytes], Awaitable[tuple[int, bytes]]]


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """What binds an authenticator to one connection, RFC 9261 section 5.1: both as long as the hash."""

    hash_name: str
    handshake_context: bytes = field(repr=False)
    finished_key: bytes = field(repr=False)


def channel_keys(stream: TlsStream) -> ChannelKeys:
    """Export the keys of a client's authenticators."""
    size = hashlib.new(stream.hash_name).digest_size
    return ChannelKeys(
        stream.hash_name,
        stream.export(b"EXPORTER-client authenticator handshake context", size),
        stream.export(b"EXPORTER-client authenticator finished key", size),
    )


async def make_authenticator(
    keys: ChannelKeys, request: CertificateRequest, chain: Sequence[bytes], sign: Sign
) -> bytes:
    """Return Certificate, CertificateVerify and Finished for `chain` (DER, the signing key's certificate first)."""
    certificate = _certificate(request.context, chain)
    content = b" " * 64 + b"Exported Authenticator\0" + _transcript(keys, request, certificate)
    scheme, signature = await sign(request.schemes, content)
    verify = _message(15, scheme.to_bytes(2, "big") + _vector(2, signature))
    return certificate + verify + _finished(keys, request, certificate + verify)


def empty_authenticator(keys: ChannelKeys, request: CertificateRequest) -> bytes:
    """Return the authentic refusal: a Finished over an empty Certificate that is not sent, RFC 9261 section 5.2.3."""
    return _finished(keys, request, _certificate(request.context, ()))


def _certificate(context: bytes, chain: Sequence[bytes]) -> bytes:
    entries = b"".join(_vector(3, der) + _vector(2, b"") for der in chain)
    return _message(11, _vector(1, context) + _vector(3, entries))


def _finished(keys: ChannelKeys, request: CertificateRequest, sent: bytes) -> bytes:
    return _message(20, hmac.digest(keys.finished_key, _transcript(keys, request, sent), keys.hash_name))


def _transcript(keys: ChannelKeys, request: CertificateRequest, sent: bytes) -> bytes:
    return hashlib.new(keys.hash_name, keys.handshake_context + request.encoded + sent).digest()


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _vector(3, body)


def _vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data
