"""An endorsement key's certificate, chain and template: rows 1, 2 and 3 of the checklist, at enrolment.

TCG EK Credential Profile 2.5, RFC 5280. Pure: no TPM library, no network; the roots are whatever the caller pins.
The library's own path building is no help: no name out of order, no SHA-1, which Infineon's older CAs have.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

from sdbox.attestation.codes import failure
from sdbox.attestation.credential import EkPublicKey, default_ek_name
from sdbox.attestation.templates import is_default_ek
from sdbox.attestation.vendorcert import VendorCertificate, load_vendor_certificate
from sdbox.attestation.verdict import Failure

EK_USAGE = ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate, 3.2.16
MOST_ISSUERS = 4
# What may be critical (RFC 5280, 4.2): it is checked here, or, for names and policies, any is accepted.
_KNOWN = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)
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


def key_digest(ek: EkPublicKey) -> str:
    """Return the SHA-256 (hex) of its SubjectPublicKeyInfo: what an inventory says of a key."""
    return hashlib.sha256(ek.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def inventory_failures(ek: EkPublicKey, noted: str) -> Iterator[Failure]:
    """Row 2: `noted` is the `key_digest` that the factory wrote down for this serial."""
    if key_digest(ek) != noted:
        yield failure("ek-inventory", "not the key on the factory's inventory")


def certificate_failures(der: bytes, ek: EkPublicKey, anchors: Anchors, now: dt.datetime) -> Iterator[Failure]:
    """Rows 1 and 2: `der`, as it is in NV, certifies `ek` and chains to one of the roots at the time `now`."""
    try:
        certificate = load_vendor_certificate(der)
        leaf = certificate.parsed
        certified = leaf.public_key()
        is_leaf_valid = is_valid(leaf, now)
        name = leaf.issuer.rfc4514_string()[:80] or "an unnamed issuer"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: a name whose value is a bit string
        yield failure("ek-malformed", str(error))
        return
    if certified != ek:
        yield failure("ek-mismatch", "the certificate is for another key")
    if not _is_for_endorsement(leaf):
        yield failure(
            "ek-usage", "not the usages and constraints of an endorsement key, or something unknown is critical"
        )
    chain = chain_of(certificate, anchors)
    if chain is None:
        yield failure("ek-chain", f"no way from {name} to a pinned root")
    elif not is_leaf_valid or any(not is_valid(one.parsed, now) for one in chain[1:]):
        yield failure("ek-validity", "a certificate of the chain is not valid now")


def _is_for_endorsement(leaf: x509.Certificate) -> bool:
    """Whether it is as the profile has it: for an EK, of no CA, to encipher or agree on keys."""
    try:
        extensions = leaf.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        is_rsa = isinstance(leaf.public_key(), rsa.RSAPublicKey)
    except _UNREADABLE:
        return False
    enciphers = usage.key_encipherment if is_rsa else usage.key_agreement
    issues = basic.ca or usage.key_cert_sign or usage.crl_sign
    return EK_USAGE in extended and enciphers and not issues and _is_understood(extensions)


def _is_understood(extensions: x509.Extensions) -> bool:
    return all(one.oid in _KNOWN for one in extensions if one.critical)


def chain_of(leaf: VendorCertificate, anchors: Anchors) -> list[VendorCertificate] | None:
    """Return leaf, intermediates and root; None if there is no way within MOST_ISSUERS steps."""
    chain = [leaf]
    for _ in range(MOST_ISSUERS):
        root = next((one for one in anchors.roots if _issued(chain, one)), None)
        if root is not None:
            return [*chain, root]
        between = next((one for one in anchors.intermediates if one not in chain and _issued(chain, one)), None)
        if between is None:
            return None
        chain.append(between)
    return None


def _issued(chain: Sequence[VendorCertificate], issuer: VendorCertificate) -> bool:
    return _may_issue_endorsement(issuer.parsed, len(chain) - 1) and chain[-1].is_issued_by(issuer)


def _may_issue_endorsement(certificate: x509.Certificate, below: int) -> bool:
    """Whether it is a CA's that may have `below` CAs under it, and nothing in it speaks against endorsement keys."""
    if not may_issue(certificate):
        return False
    extensions = certificate.extensions
    length = extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    usages = [one.value for one in extensions if isinstance(one.value, x509.ExtendedKeyUsage)]
    is_for_it = all(EK_USAGE in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage for usage in usages)
    return (length is None or below <= length) and is_for_it and _is_understood(extensions)


def may_issue(certificate: x509.Certificate) -> bool:
    """Whether it is a CA's: basic constraints and key usage say so."""
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except _UNREADABLE:
        return False
    return basic.ca and usage.key_cert_sign


def is_valid(certificate: x509.Certificate, now: dt.datetime) -> bool:
    """Whether `now` is within its dates."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
