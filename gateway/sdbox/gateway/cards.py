"""What a container's certificate is worth: issuer, use, key, validity, project, revocation; the offers made from it."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sdbox.gateway.certificates import UNREADABLE, load_certificate
from sdbox.gateway.config import BubbleConfig
from sdbox.gateway.renewalbook import Successor
from sdbox.protocol import messages as m
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import PROJECT_URI

MOST_CERTIFICATES: Final = 64
_SMALLEST_RSA: Final = 2048
_LARGEST_RSA: Final = 4096
_PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Container:
    """A certificate as the gateway reads it. `project` is None unless it names exactly one."""

    certificate: x509.Certificate
    der: bytes
    project: str | None

    @property
    def serial(self) -> str:
        """The serial number in hex, as `sdbox-gateway revoke --certificate` takes it."""
        return f"{self.certificate.serial_number:x}"

    @property
    def fingerprint(self) -> bytes:
        return hashlib.sha256(self.der).digest()

    @property
    def age(self) -> tuple[dt.datetime, dt.datetime, int]:
        """What makes one certificate newer than another: its start, then its end, then its number."""
        certificate = self.certificate
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.serial_number


def read_container(der: bytes) -> Container:
    """Parse a certificate. Refusal CARD_PROOF if it is none."""
    try:
        certificate = load_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        return Container(certificate, der, None)
    except UNREADABLE as error:
        raise Refusal(Reason.CARD_PROOF, f"certificate unreadable: {type(error).__name__}") from error
    projects = [uri.removeprefix(PROJECT_URI) for uri in uris if uri.startswith(PROJECT_URI)]
    single = projects[0] if len(projects) == 1 and _PROJECT.fullmatch(projects[0]) else None
    return Container(certificate, der, single)


def readable(certificates: Sequence[bytes]) -> list[Container]:
    """Parse a card's certificates, each once; what is none is left out: it costs nothing to the others."""
    found = []
    for der in dict.fromkeys(certificates):
        with contextlib.suppress(Refusal):
            found.append(read_container(der))
    return found


class CardPolicy:
    """Judges containers against the card CA, the revocation list and the bubble catalogue."""

    def __init__(
        self,
        card_ca: Path,
        bubbles: Mapping[str, BubbleConfig],
        is_revoked: Callable[[str], bool],
        successor: Callable[[bytes], Successor | None] = lambda _: None,
    ) -> None:
        """Read the CA certificate (PEM). OSError or ValueError if it cannot be used. `is_revoked` takes a serial.

        `successor` tells what a certificate (DER) was renewed by.
        """
        self._authority = x509.load_pem_x509_certificate(card_ca.read_bytes())
        self._bubbles = bubbles
        self._is_revoked = is_revoked
        self._successor = successor

    def fault(self, container: Container) -> Reason | None:
        """Return why this container cannot open its bubble now, None if it can."""
        missing = None if container.project in self._bubbles else Reason.PROJECT_NO_BUBBLE
        return self.certificate_fault(container) or missing

    def certificate_fault(self, container: Container) -> Reason | None:
        """Return what is wrong with the certificate itself, whether or not there is a bubble for it now."""
        if not self._is_issued(container.certificate):
            return Reason.CERTIFICATE_ISSUER
        if not _may_sign(container.certificate):
            return Reason.CERTIFICATE_USAGE
        now = dt.datetime.now(dt.UTC)
        if now < container.certificate.not_valid_before_utc:
            return Reason.CERTIFICATE_NOT_YET_VALID
        if now > container.certificate.not_valid_after_utc:
            return Reason.CERTIFICATE_EXPIRED
        return self._withdrawn(container)

    def offers(self, containers: Sequence[Container]) -> tuple[m.OfferItem, ...]:
        """Judge a whole card, one offer per container. Refusal CARD_EMPTY if no certificate names a project.

        Of several that could open the same project the newest does, wherever it is on the card; each other one is
        CONTAINER_DUPLICATE. That is normal while a certificate is renewed, and the older key is not needed any more.
        """
        named = [container for container in containers if container.project]
        if not named:
            raise Refusal(Reason.CARD_EMPTY)
        faults = {container.der: self.fault(container) or self._replaced(container, named) for container in named}
        newest: dict[str | None, Container] = {}
        for container in sorted(named, key=lambda one: one.age):
            if faults[container.der] is None:
                newest[container.project] = container
        return tuple(
            self._offer(container, faults[container.der], is_newest=newest.get(container.project) is container)
            for container in named
        )

    def _withdrawn(self, container: Container) -> Reason | None:
        if self._is_revoked(container.serial):
            return Reason.CERTIFICATE_REVOKED
        renewed = self._successor(container.der)
        return Reason.CERTIFICATE_SUPERSEDED if renewed is not None and renewed.confirmed else None

    def _replaced(self, container: Container, shown: Sequence[Container]) -> Reason | None:
        """Whether another container shown has renewed this one: a card pulled in the middle of that has both."""
        after = self._successor(container.der)
        both = after is not None and after.certificate in {other.der for other in shown}
        return Reason.CONTAINER_DUPLICATE if both else None

    def _offer(self, container: Container, fault: Reason | None, *, is_newest: bool) -> m.OfferItem:
        if fault is None and not is_newest:
            fault = Reason.CONTAINER_DUPLICATE
        project = container.project or ""
        # A certificate that is not ours gets no title: it could ask what bubbles there are.
        bubble = None if fault is Reason.CERTIFICATE_ISSUER else self._bubbles.get(project)
        french, english = (bubble.title_fr, bubble.title_en) if bubble else (project, project)
        code, fresh = fault.value if fault else None, self.wants_fresh(project)
        return m.OfferItem(project, french, english, code, container.fingerprint, fault is None and fresh)

    def wants_fresh(self, project: str) -> bool:
        """Whether this project's bubble is entered only right after the holder was verified."""
        bubble = self._bubbles.get(project)
        return bubble is not None and bubble.fresh_finger

    def _is_issued(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self._authority)
        except UNREADABLE:
            return False
        return True


def _may_sign(certificate: x509.Certificate) -> bool:
    """RFC 5280, 4.2.1.3: digitalSignature; and a key of a kind and size that the card proof allows."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        key = certificate.public_key()
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    if isinstance(key, rsa.RSAPublicKey):
        return usage.digital_signature and _SMALLEST_RSA <= key.key_size <= _LARGEST_RSA
    curves = (ec.SECP256R1, ec.SECP384R1)
    return usage.digital_signature and isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curves)
