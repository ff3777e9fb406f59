"""Requests for renewed certificates by keys that are software, and a gateway that has them signed."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.agent.channel.channel import Channel
from tests.service.gateway_bench import SoftSigner
from tests.unit.channel_certificates import name

ISSUING = {"issuing.own.certificate": "card-ca.crt", "issuing.own.key": "card-ca.key", "issuing.own.life_days": 30}
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def leaf(signer: SoftSigner) -> x509.Certificate:
    return x509.load_der_x509_certificate(signer.chain[0])


@dataclass
class Renewed:
    """A new key for an old container, and the request for it; `ask` and `confirm` are what a box does with them."""

    old: SoftSigner
    project: str = "atlas"
    key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def request(
        self, *, subject: str = "container", names: tuple[str, ...] | None = None, extra: bool = False
    ) -> bytes:
        uris = [x509.UniformResourceIdentifier(f"urn:sdbox:project:{one}") for one in names or (self.project,)]
        builder = x509.CertificateSigningRequestBuilder(name(subject))
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), critical=False)
        if extra:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    async def ask(self, channel: Channel, request: bytes | None = None) -> SoftSigner:
        """Return the container that comes back."""
        certificate = await channel.request_renewal(self.project, request or self.request(), self.old)
        return SoftSigner(self.key, (certificate,))

    async def all_of_it(self, channel: Channel) -> SoftSigner:
        new = await self.ask(channel)
        await channel.confirm_renewal(self.project, new)
        return new
