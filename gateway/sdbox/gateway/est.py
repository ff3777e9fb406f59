"""EST, the way to an outside CA: RFC 7030 `simplereenroll`, with the gateway as registration authority.

The standard library speaks HTTP and TLS here; the answer is a certs-only PKCS#7. Nothing is tried twice: a box that
gets no certificate asks again at its card's next insertion.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

from sdbox.gateway.certificates import UNREADABLE
from sdbox.gateway.issuing import key_fingerprint
from sdbox.gateway.issuingconfig import EstConfig
from sdbox.protocol.reasons import Reason, Refusal

SECONDS: Final = 20.0  # for each read and write
LARGEST_ANSWER: Final = 1 << 16
WELL_KNOWN: Final = "/.well-known/est"  # RFC 7030, 3.2.2; a label may follow
MOST_CERTIFICATES: Final = 8


class EstAuthority:
    """An `Issuer` behind an EST server."""

    def __init__(self, config: EstConfig) -> None:
        """Read trust anchor, certificate and password. OSError or ValueError (ssl.SSLError is one) if unusable."""
        parts = urlsplit(config.url)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("issuing.est.url must be https://HOST[:PORT][/LABEL]")
        self._host, self._port = parts.hostname, parts.port or 443
        self._path = f"{WELL_KNOWN}{parts.path.rstrip('/')}/simplereenroll"
        self._tls = _tls_context(config)
        self._authorization = _basic(config)

    def issue(self, _old: x509.Certificate, request: x509.CertificateSigningRequest) -> x509.Certificate:
        """Ask once. Refusal RENEWAL_REFUSED if the CA says no, RENEWAL_UNAVAILABLE if it says nothing of use."""
        status, kind, body = self._post(base64.b64encode(request.public_bytes(Encoding.DER)))
        if status in (http.client.BAD_REQUEST, http.client.FORBIDDEN):
            raise Refusal(Reason.RENEWAL_REFUSED, f"the EST server answers {status}")
        if status != http.client.OK or kind.partition(";")[0].strip().lower() != "application/pkcs7-mime":
            # 202 (Retry-After) too: the box asks again, with the same key, when its card is next in
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, f"the EST server answers {status}")
        try:
            found = load_der_pkcs7_certificates(base64.b64decode(b"".join(body.split()), validate=True))
            wanted = key_fingerprint(request)
            matching = [certificate for certificate in found if key_fingerprint(certificate) == wanted]
        except (binascii.Error, *UNREADABLE) as error:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, f"the EST server's answer: {type(error).__name__}") from error
        if len(matching) != 1 or len(found) > MOST_CERTIFICATES:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, "the EST server's answer has not the one certificate asked for")
        return matching[0]

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """Send the request (RFC 7030, 4.2.1) and return status, content type and body."""
        headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=SECONDS, context=self._tls)
        try:
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            content = answer.read(LARGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, f"no answer by EST: {type(error).__name__}") from error
        finally:
            connection.close()
        if len(content) > LARGEST_ANSWER:
            raise Refusal(Reason.RENEWAL_UNAVAILABLE, "the EST server's answer is too long")
        return answer.status, answer.headers.get("Content-Type", ""), content


def _tls_context(config: EstConfig) -> ssl.SSLContext:
    """Trust this one anchor and no other; the host's name is checked (RFC 7030, 3.6)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=config.trust)
    if config.certificate is not None:
        context.load_cert_chain(config.certificate, config.key)
    return context


def _basic(config: EstConfig) -> str | None:
    if config.user is None or config.password_file is None:
        return None
    password = Path(config.password_file).read_text(encoding="utf-8").rstrip("\r\n")
    return "Basic " + base64.b64encode(f"{config.user}:{password}".encode()).decode("ascii")
