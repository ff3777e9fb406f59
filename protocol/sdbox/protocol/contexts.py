"""What is bound to what: the byte strings that both ends compute for themselves and never send."""

from __future__ import annotations

import hashlib

QUOTE_EXPORTER_LABEL = b"EXPORTER-sdbox-attest"
NONCE_SIZE = 32


def qualifying_data(nonce: bytes, exporter: bytes, box_id: bytes, event_log: bytes) -> bytes:
    """Return the 32 bytes a quote must carry: bound to nonce, TLS channel, box and event log (checklist 7, 11)."""
    return qualifying_data_for(nonce, exporter, box_id, hashlib.sha256(event_log).digest())


def qualifying_data_for(nonce: bytes, exporter: bytes, box_id: bytes, log_digest: bytes) -> bytes:
    """Return the same for an event log of which only the SHA-256 is at hand."""
    if (len(nonce), len(exporter), len(box_id), len(log_digest)) != (NONCE_SIZE, 32, 16, 32):
        raise ValueError("nonce, exporter and log digest have 32 bytes, a box id 16")
    return hashlib.sha256(b"sdbox-attest-v1" + nonce + exporter + box_id + log_digest).digest()


def offers_context(nonce: bytes) -> bytes:
    """Return the RFC 9261 request context of a CardProof: 64 bytes."""
    return nonce + hashlib.sha256(b"sdbox-offers-v1").digest()


def open_context(nonce: bytes, project: str, tunnel_public: bytes) -> bytes:
    """Return the RFC 9261 request context of an Open: the card signs for this bubble and this tunnel key. 64 bytes."""
    name = project.encode()
    if len(tunnel_public) != 32 or len(name) > 255:  # X25519 key size, one length byte
        raise ValueError("tunnel key has 32 bytes, a project name at most 255")
    return nonce + hashlib.sha256(b"sdbox-open-v1" + bytes([len(name)]) + name + tunnel_public).digest()


def renewal_context(nonce: bytes, project: str, request: bytes) -> bytes:
    """Return the RFC 9261 request context of a RenewalRequest: the old container signs for this PKCS#10. 64 bytes."""
    return nonce + hashlib.sha256(b"sdbox-renewal-v1" + _named(project) + hashlib.sha256(request).digest()).digest()


def written_context(nonce: bytes, project: str) -> bytes:
    """Return the RFC 9261 request context of a RenewalWritten, which the new container signs. 64 bytes."""
    return nonce + hashlib.sha256(b"sdbox-written-v1" + _named(project)).digest()


def _named(project: str) -> bytes:
    name = project.encode()
    if len(name) > 255:  # one length byte
        raise ValueError("a project name has at most 255 bytes")
    return bytes([len(name)]) + name
