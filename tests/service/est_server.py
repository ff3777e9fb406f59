"""A small EST server (RFC 7030): base64 PKCS#10 in, base64 certs-only PKCS#7 out, over TLS with a client certificate.

PKCS#7 is made by the openssl command, so that the gateway's reading of it meets another's writing.
"""

from __future__ import annotations

import base64
import binascii
import http.server
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.service.gateway_site import pem
from tests.unit.channel_certificates import Authority

Sign = Callable[[x509.CertificateSigningRequest], list[x509.Certificate]]
PATH = "/.well-known/est/cards/simplereenroll"
BASIC = "Basic " + base64.b64encode(b"gateway:s3cret").decode()


@dataclass
class EstServer:
    """What it does and what it saw. `status` and `body` take the place of an honest answer."""

    folder: Path
    sign: Sign
    authority: Authority = field(default_factory=lambda: Authority("EST CA"))
    port: int = 0
    status: int = 200
    body: bytes | None = None
    requests: list[str] = field(default_factory=list)
    authorization: str | None = None  # that every request must have; None: that none may have

    def settings(self, *, basic: bool = False) -> dict[str, object]:
        """Return what the gateway is told; the server wants just that."""
        self.authorization = BASIC if basic else None
        told = {"url": f"https://localhost:{self.port}/cards", "trust": str(self.folder / "est-ca.pem")}
        if basic:
            told |= {"user": "gateway", "password_file": str(self.folder / "password")}
        told |= {"certificate": str(self.folder / "ra.pem"), "key": str(self.folder / "ra.key")}
        return {f"issuing.est.{name}": value for name, value in told.items()}

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        self.requests.append(path)
        if path != PATH:
            return 404, b""
        if headers.get("authorization") != self.authorization:
            return 401, b""
        if headers.get("content-type") != "application/pkcs10" or headers.get("content-transfer-encoding") != "base64":
            return 400, b""
        try:
            request = x509.load_der_x509_csr(base64.b64decode(body, validate=True))
        except (ValueError, binascii.Error):
            return 400, b""
        if self.status != http.HTTPStatus.OK or self.body is not None:
            return self.status, self.body or b""
        return 200, base64.encodebytes(certs_only(self.folder, self.sign(request)))


def certs_only(folder: Path, certificates: list[x509.Certificate]) -> bytes:
    """Return a degenerate SignedData (RFC 7030, 4.2.3), DER."""
    chain = folder / "chain.pem"
    chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
    command = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", str(chain), "-outform", "DER"]
    return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout


@contextmanager
def running_est(folder: Path, sign: Sign) -> Iterator[EstServer]:
    """Serve on localhost until the end of the block; clients need a certificate of the server's CA."""
    folder.mkdir()
    server = EstServer(folder, sign)
    for name in ("server", "ra"):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = server.authority.server(key.public_key(), "localhost", common_name=name)
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / f"{name}.key").write_bytes(pem(key))
    (folder / "est-ca.pem").write_bytes(server.authority.certificate.public_bytes(Encoding.PEM))
    (folder / "password").write_text("s3cret\n")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = server.answer(self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "est-ca.pem")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        server.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join(10)
