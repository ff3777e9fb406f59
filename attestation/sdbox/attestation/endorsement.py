"""An endorsement key's certificate, chain and template: rows 1, 2 and 3 of the checklist, at enrolment.

TCG EK Credential Profile 2.5. Pure: no TPM library, no network; the roots are whatever the caller pins.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier

from sdbox.attestation.codes import failure
from sdbox.attestation.credential import EkPublicKey, default_ek_name
from sdbox.attestation.templates import is_default_ek
from sdbox.attestation.vendorcert import VendorCertificate, load_vendor_certificate
from sdbox.attestation.verdict import Failure

EK_USAGE = ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate, 3.2.16
MOST_ISSUERS = 4
# What an extension can be instead of itself; the library has no common base for these.
_UNREADABLE = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError)


@dataclass(frozen=True, slots=True)
class Anchors:
    """The vendors' roots that are pinned, and certificates between them and a TPM's that the vendor publishes."""

    roots: Sequence[VendorCertificate]
    intermediates: Sequence[VendorCertificate] = ()


def template_failures(ek_public: bytes) -> Iterator[Failure]:
    """Row 3: `ek_public` (TPMT_PUBLIC) is the default template L-1 with a modulus: it decrypts, and never signs."""
    if not is_default_ek(ek_public):
        yield failure("ek-template", "not the TCG default template for RSA 2048")


def kind_failures(ek: EkPublicKey) -> Iterator[Failure]:
    """Row 3, where only the key is known: one that the default template can give. Its Name then says the rest."""
    try:
        default_ek_name(ek)
    except ValueError as error:
        yield failure("ek-template", str(error))


def inventory_failures(ek: EkPublicKey, noted: str) -> Iterator[Failure]:
    """Row 2: `noted` is the SHA-256 (hex) of the SubjectPublicKeyInfo that the factory wrote down for this serial."""
    spki = ek.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if hashlib.sha256(spki).hexdigest() != noted:
        yield failure("ek-inventory", "not the key on the factory's inventory")


def certificate_failures(der: bytes, ek: EkPublicKey, anchors: Anchors, now: dt.datetime) -> Iterator[Failure]:
    """Rows 1 and 2: `der`, as it is in NV, certifies `ek` and chains to one of the roots at the time `now`."""
    try:
        certificate = load_vendor_certificate(der)
        leaf = certificate.parsed
        certified = leaf.public_key()
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        name = leaf.issuer.rfc4514_string()[:80] or "an unnamed issuer"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: a name whose value is a bit string
        yield failure("ek-malformed", str(error))
        return
    if certified != ek:
        yield failure("ek-mismatch", "the certificate is for another key")
    if not _is_for_endorsement(leaf):
        yield failure("ek-usage", "no extended key usage 2.23.133.8.1, or one of a CA")
    chain = chain_of(certificate, anchors)
    if chain is None:
        yield failure("ek-chain", f"no way from {name} to a pinned root")
    elif not begin <= now <= end or any(not _is_valid(one.parsed, now) for one in chain[1:]):
        yield failure("ek-validity", "a certificate of the chain is not valid now")


def _is_for_endorsement(leaf: x509.Certificate) -> bool:
    try:
        usage = leaf.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
    except _UNREADABLE:
        return False
    return isinstance(usage, x509.ExtendedKeyUsage) and EK_USAGE in usage and not may_issue(leaf)


def chain_of(leaf: VendorCertificate, anchors: Anchors) -> list[VendorCertificate] | None:
    """Return leaf, intermediates and root; None if there is no way within MOST_ISSUERS steps."""
    chain = [leaf]
    for _ in range(MOST_ISSUERS):
        root = next((one for one in anchors.roots if _issued(chain[-1], one)), None)
        if root is not None:
            return [*chain, root]
        between = next((one for one in anchors.intermediates if one not in chain and _issued(chain[-1], one)), None)
        if between is None:
            return None
        chain.append(between)
    return None


def _issued(certificate: VendorCertificate, issuer: VendorCertificate) -> bool:
    return may_issue(issuer.parsed) and certificate.is_issued_by(issuer)


def may_issue(certificate: x509.Certificate) -> bool:
    """Whether it is a CA's: basic constraints and key usage say so."""
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except _UNREADABLE:
        return False
    return basic.ca and usage.key_cert_sign


def _is_valid(certificate: x509.Certificate, now: dt.datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
