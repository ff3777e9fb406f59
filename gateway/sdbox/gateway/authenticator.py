"""The gateway's half of the card proof: an exported authenticator is checked (RFC 9261, section 5.2.4 and 7.4).

It proves that the leaf's private key signed for this connection and this request. Whether the certificate is worth
anything is for `cards.py`. Nothing here is shared with the box's half but the request.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from sdbox.gateway.certificates import UNREADABLE
from sdbox.protocol.authenticator_request import (
    ECDSA_P256_SHA256,
    ECDSA_P384_SHA384,
    RSA_PKCS1_SHA256,
    RSA_PSS_SHA256,
)
from sdbox.protocol.reasons import Reason, Refusal

if TYPE_CHECKING:
    from sdbox.protocol.authenticator_request import CertificateRequest
    from sdbox.protocol.tls import TlsStream

LARGEST: Final = 1 << 16
_ECDSA: Final[dict[int, tuple[type[ec.EllipticCurve], hashes.HashAlgorithm]]] = {
    ECDSA_P256_SHA256: (ec.SECP256R1, hashes.SHA256()),
    ECDSA_P384_SHA384: (ec.SECP384R1, hashes.SHA384()),
}
_RSA: Final[dict[int, padding.AsymmetricPadding]] = {
    RSA_PSS_SHA256: padding.PSS(padding.MGF1(hashes.SHA256()), 32),  # RFC 8446, 4.2.3: salt as long as the digest
    RSA_PKCS1_SHA256: padding.PKCS1v15(),
}


@dataclass(frozen=True, slots=True)
class ConnectionKeys:
    """The connection's secrets of RFC 9261 section 5.1, client direction."""

    hash_name: str
    handshake_context: bytes = field(repr=False)
    finished_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Parts:
    chain: tuple[bytes, ...]
    scheme: int
    signature: bytes
    certificate: bytes  # whole messages, as they were hashed
    certificate_verify: bytes
    finished: bytes  # body


class _MalformedError(ValueError):
    pass


def connection_keys(stream: TlsStream) -> ConnectionKeys:
    """Export what binds an authenticator to this connection."""
    name = stream.hash_name
    length = hashlib.new(name).digest_size
    start, key = (
        stream.export(b"EXPORTER-client authenticator " + what, length)
        for what in (b"handshake context", b"finished key")
    )
    return ConnectionKeys(name, start, key)


def verify_authenticator(keys: ConnectionKeys, request: CertificateRequest, data: bytes) -> tuple[bytes, ...]:
    """Return the chain (DER, leaf first). Refusal CARD_PROOF for whatever is not exactly right, an empty one too."""
    try:
        parts = _split(data, request)
        state = hashlib.new(keys.hash_name, keys.handshake_context + request.encoded + parts.certificate)
        content = b"\x20" * 64 + b"Exported Authenticator" + b"\x00" + state.digest()
        _check_signature(parts, content)
        state.update(parts.certificate_verify)
        if not hmac.compare_digest(hmac.digest(keys.finished_key, state.digest(), keys.hash_name), parts.finished):
            raise _MalformedError("Finished")
    except UNREADABLE as error:
        raise Refusal(Reason.CARD_PROOF, f"authenticator: {type(error).__name__}") from error
    return parts.chain


def _split(data: bytes, request: CertificateRequest) -> _Parts:
    """Cut into exactly Certificate, CertificateVerify, Finished; every length must fit and every byte be used."""
    if len(data) > LARGEST:
        raise _MalformedError("too long")
    messages: list[tuple[int, bytes, bytes]] = []
    rest = data
    while rest:
        body, after = _cut(rest[1:], 3)
        messages.append((rest[0], body, rest[: 4 + len(body)]))
        rest = after
    if [kind for kind, _, _ in messages] != [11, 15, 20]:
        raise _MalformedError("message order")
    (_, listed, certificate), (_, verify, certificate_verify), (_, finished, _) = messages
    scheme = int.from_bytes(verify[:2], "big")
    signature, extra = _cut(verify[2:], 2)
    if extra or scheme not in request.schemes:
        raise _MalformedError("CertificateVerify")
    return _Parts(_chain(listed, request.context), scheme, signature, certificate, certificate_verify, finished)


def _chain(body: bytes, context: bytes) -> tuple[bytes, ...]:
    echoed, rest = _cut(body, 1)
    entries, extra = _cut(rest, 3)
    if echoed != context or extra:
        raise _MalformedError("Certificate")
    chain = []
    while entries:
        der, entries = _cut(entries, 3)
        extensions, entries = _cut(entries, 2)
        if not der or extensions:  # the request offers none
            raise _MalformedError("CertificateEntry")
        chain.append(der)
    if not chain:
        raise _MalformedError("no certificate")
    return tuple(chain)


def _cut(view: bytes, width: int) -> tuple[bytes, bytes]:
    """Take one vector with a `width`-byte length off the front."""
    end = width + int.from_bytes(view[:width], "big")
    if len(view) < end or len(view) < width:
        raise _MalformedError("truncated")
    return view[width:end], view[end:]


def _check_signature(parts: _Parts, content: bytes) -> None:
    key = x509.load_der_x509_certificate(parts.chain[0]).public_key()
    if isinstance(key, rsa.RSAPublicKey) and parts.scheme in _RSA:
        key.verify(parts.signature, content, _RSA[parts.scheme], hashes.SHA256())
        return
    curve, algorithm = _ECDSA.get(parts.scheme, (None, None))
    if not isinstance(key, ec.EllipticCurvePublicKey) or curve is None or algorithm is None:
        raise _MalformedError("key does not fit the scheme")
    if not isinstance(key.curve, curve):
        raise _MalformedError("curve does not fit the scheme")
    key.verify(parts.signature, content, ec.ECDSA(algorithm))
