"""Rows 1, 2 and 3 of the checklist: whose endorsement key it is, and what it can do. Each bad input fails one code."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from sdbox.attestation.credential import make_credential
from sdbox.attestation.endorsement import (
    EK_USAGE,
    Anchors,
    certificate_failures,
    inventory_failures,
    template_failures,
)
from sdbox.attestation.templates import AK_TEMPLATE, EK_TEMPLATE
from sdbox.attestation.vendorcert import VendorCertificate, load_vendor_certificate, quirks_of

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ROOT_KEY, MIDDLE_KEY, EK, OTHER = (ec.derive_private_key(number, ec.SECP256R1()) for number in (11, 12, 13, 14))
RSA_EK = rsa.generate_private_key(65537, 2048)
SERVER = ObjectIdentifier("1.3.6.1.5.5.7.3.1")
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
ONLY = x509.NameConstraints(None, [x509.DirectoryName(x509.Name([]))])
ANY = x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier("2.5.29.32.0"), None)])
USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def named(name: str) -> x509.Name:
    """Return a name; a TPM's certificate has none (the profile puts the maker into the alternative name)."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


@dataclass(frozen=True)
class Wanted:
    """One certificate to make."""

    name: str
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    issuer: str
    signer: ec.EllipticCurvePrivateKey
    ca: bool = True
    usage: ObjectIdentifier | None = None
    start: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    uses: tuple[str, ...] | None = None  # bits of the key usage; none is no such extension
    length: int | None = None  # of the path below
    constrained: bool = True  # has basic constraints
    extra: x509.ExtensionType | None = None  # critical

    def make(self) -> x509.Certificate:
        subject, issuer = named(self.name), named(self.issuer)
        end = self.start + dt.timedelta(days=365)
        builder = x509.CertificateBuilder(issuer, subject, self.key.public_key(), 7, self.start, end)
        if self.constrained:
            builder = builder.add_extension(x509.BasicConstraints(self.ca, self.length), critical=True)
        usual = ("key_cert_sign", "crl_sign") if self.ca else ("key_agreement",)
        if uses := usual if self.uses is None else self.uses:
            flags = dict.fromkeys(USES, False) | dict.fromkeys(uses, True)
            builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
        if self.usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([self.usage]), critical=False)
        if self.extra:
            builder = builder.add_extension(self.extra, critical=True)
        return builder.sign(self.signer, hashes.SHA256())


ROOT = Wanted("TPM vendor root", ROOT_KEY, "TPM vendor root", ROOT_KEY)
MIDDLE = Wanted("TPM vendor CA 1, with a name as long as they are", MIDDLE_KEY, ROOT.name, ROOT_KEY)
LEAF = Wanted("", EK, MIDDLE.name, MIDDLE_KEY, ca=False, usage=EK_USAGE)


def vendor(certificate: x509.Certificate) -> VendorCertificate:
    return load_vendor_certificate(certificate.public_bytes(Encoding.DER))


def anchored(roots: Sequence[x509.Certificate], between: Sequence[x509.Certificate]) -> Anchors:
    return Anchors([vendor(one) for one in roots], [vendor(one) for one in between])


ANCHORS = anchored([ROOT.make()], [MIDDLE.make()])


def der(wanted: Wanted) -> bytes:
    return wanted.make().public_bytes(Encoding.DER)


def codes(data: bytes, anchors: Anchors = ANCHORS, now: dt.datetime = NOW) -> list[tuple[int, str]]:
    return [(found.check, found.code) for found in certificate_failures(data, EK.public_key(), anchors, now)]


@pytest.mark.parametrize("padding", [b"", bytes(200), b"\xff" * 200])
def test_row_1_a_vendors_certificate_is_accepted_whatever_fills_its_index_up(padding: bytes) -> None:
    assert codes(der(LEAF) + padding) == []


def test_row_1_what_known_vendors_have_is_accepted() -> None:
    """Infineon, STMicroelectronics, Intel: path lengths that are just enough, critical policies, the usage in CAs."""
    root = replace(ROOT, length=1, extra=ANY)
    middle = replace(MIDDLE, length=0, extra=ANY, usage=EK_USAGE, uses=("key_cert_sign",))
    assert codes(der(replace(LEAF, extra=ANY)), anchored([root.make()], [middle.make()])) == []


def test_row_1_an_rsa_key_is_one_to_encipher_keys_with() -> None:
    leaf, key = replace(LEAF, key=RSA_EK), RSA_EK.public_key()
    for uses, found in ((("key_encipherment",), []), (("key_agreement",), ["ek-usage"])):
        failures = certificate_failures(der(replace(leaf, uses=uses)), key, ANCHORS, NOW)
        assert [failure.code for failure in failures] == found


def test_what_is_tolerated_of_a_certificate_has_a_name() -> None:
    leaf = LEAF.make()
    assert quirks_of(leaf.public_bytes(Encoding.DER)) == quirks_of(leaf.public_bytes(Encoding.PEM)) == ()
    assert quirks_of(leaf.public_bytes(Encoding.DER) + bytes(9)) == ("padding",)
    assert quirks_of(b"none") == quirks_of(b"-----BEGIN CERTIFICATE-----") == quirks_of(None) == ()


BAD: dict[str, tuple[bytes, Anchors, tuple[int, str]]] = {
    "nothing": (b"", ANCHORS, (1, "ek-malformed")),
    "erased index": (b"\xff" * 1000, ANCHORS, (1, "ek-malformed")),
    "cut": (der(LEAF)[:-1], ANCHORS, (1, "ek-malformed")),
    "software TPM": (der(replace(LEAF, issuer="swtpm", signer=OTHER)), ANCHORS, (1, "ek-chain")),
    "the vendor's name, not its key": (der(replace(LEAF, signer=OTHER)), ANCHORS, (1, "ek-chain")),
    "no root pinned": (der(LEAF), Anchors([], ANCHORS.intermediates), (1, "ek-chain")),
    "issued by no CA": (der(LEAF), anchored([ROOT.make()], [replace(MIDDLE, ca=False).make()]), (1, "ek-chain")),
    "expired intermediate": (
        der(LEAF),
        anchored([ROOT.make()], [replace(MIDDLE, start=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)).make()]),
        (1, "ek-validity"),
    ),
    "no usage": (der(replace(LEAF, usage=None)), ANCHORS, (1, "ek-usage")),
    "a web server's usage": (der(replace(LEAF, usage=SERVER)), ANCHORS, (1, "ek-usage")),
    "a CA": (der(replace(LEAF, ca=True, uses=("key_agreement",))), ANCHORS, (1, "ek-usage")),
    "a CA without key usage": (der(replace(LEAF, ca=True, uses=())), ANCHORS, (1, "ek-usage")),
    "no basic constraints": (der(replace(LEAF, constrained=False)), ANCHORS, (1, "ek-usage")),
    "no key usage": (der(replace(LEAF, uses=())), ANCHORS, (1, "ek-usage")),
    "a key to sign with": (der(replace(LEAF, uses=("digital_signature",))), ANCHORS, (1, "ek-usage")),
    "the usage of an RSA key": (der(replace(LEAF, uses=("key_encipherment",))), ANCHORS, (1, "ek-usage")),
    "may sign certificates too": (
        der(replace(LEAF, uses=("key_agreement", "key_cert_sign"))),
        ANCHORS,
        (1, "ek-usage"),
    ),
    "a critical extension that nobody knows": (der(replace(LEAF, extra=UNKNOWN)), ANCHORS, (1, "ek-usage")),
    **{
        f"below {what}": (der(LEAF), anchored([root.make()], [middle.make()]), (1, "ek-chain"))
        for what, root, middle in (
            ("a root that allows no CA below it", replace(ROOT, length=0), MIDDLE),
            ("a CA for web servers", ROOT, replace(MIDDLE, usage=SERVER)),
            ("a CA of which something unknown is critical", ROOT, replace(MIDDLE, extra=UNKNOWN)),
            ("a CA for some names only", ROOT, replace(MIDDLE, extra=ONLY)),
            ("a root for some names only", replace(ROOT, extra=ONLY), MIDDLE),
        )
    },
    "text behind it": (der(LEAF) + b"anything", ANCHORS, (1, "ek-malformed")),
    "two kinds of padding": (der(LEAF) + b"\0\xff", ANCHORS, (1, "ek-malformed")),
    "another key": (der(replace(LEAF, key=OTHER)), ANCHORS, (2, "ek-mismatch")),
}


@pytest.mark.parametrize(("data", "anchors", "row"), BAD.values(), ids=BAD.keys())
def test_rows_1_and_2_a_bad_certificate(data: bytes, anchors: Anchors, row: tuple[int, str]) -> None:
    assert codes(data, anchors) == [row]


@pytest.mark.parametrize("now", [NOW - dt.timedelta(days=365), NOW + dt.timedelta(days=365)])
def test_row_1_a_certificate_out_of_its_time(now: dt.datetime) -> None:
    assert codes(der(LEAF), now=now) == [(1, "ek-validity")]


def test_row_1_a_loop_of_issuers_ends() -> None:
    one, two = Wanted("one", MIDDLE_KEY, "two", OTHER), Wanted("two", OTHER, "one", MIDDLE_KEY)
    looped: Sequence[x509.Certificate] = [one.make(), two.make()]
    assert codes(der(replace(LEAF, issuer="one")), anchored([ROOT.make()], looped)) == [(1, "ek-chain")]


def test_row_2_the_factory_knows_the_key_of_this_serial() -> None:
    noted = hashlib.sha256(EK.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    assert list(inventory_failures(EK.public_key(), noted)) == []
    assert [found.code for found in inventory_failures(OTHER.public_key(), noted)] == ["ek-inventory"]


def test_a_credential_carries_exactly_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        make_credential(EK.public_key(), b"\0\x0b" + bytes(32), bytes(31))


def test_row_3_only_the_default_template_is_an_endorsement_key() -> None:
    assert list(template_failures(EK_TEMPLATE[:-256] + b"\x99" * 256)) == []
    signing = bytearray(EK_TEMPLATE)
    signing[5] |= 0x04  # TPMA_OBJECT, bit 18: sign
    for bad in (bytes(signing), AK_TEMPLATE, EK_TEMPLATE[:-1], b""):
        assert [(found.check, found.code) for found in template_failures(bad)] == [(3, "ek-template")]


def test_the_vendor_of_the_bench_s_tpm_is_pinned_like_any(tmp_path: Path) -> None:
    """A certificate file survives PEM, which is how roots are pinned."""
    path = tmp_path / "root.pem"
    path.write_bytes(ROOT.make().public_bytes(Encoding.PEM))
    root = x509.load_pem_x509_certificate(path.read_bytes())
    assert codes(der(LEAF), Anchors([vendor(root)], ANCHORS.intermediates)) == []


def disordered(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Turn the SETs of `certificate`'s names round, as Nuvoton's CAs have them, and sign that with `key`."""
    signed = certificate.tbs_certificate_bytes
    for name in {certificate.issuer, certificate.subject}:
        for rdn in name.rdns:
            members = [x509.Name([one]).public_bytes()[4:] for one in rdn]  # without SEQUENCE and SET
            right = next(order for order in (members, members[::-1]) if b"".join(order) in signed)
            signed = signed.replace(b"".join(right), b"".join(right[::-1]))
    value = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    bits = b"\x03" + bytes([len(value) + 1]) + b"\0" + value
    whole = signed + bytes.fromhex("300a06082a8648ce3d040302") + bits
    return b"\x30\x82" + len(whole).to_bytes(2, "big") + whole


def test_row_1_a_vendor_whose_names_are_not_in_order_is_accepted_and_no_other_change_is() -> None:
    two = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "root"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "vendor")]
    )
    name = x509.Name([two])
    known = ROOT.make()
    builder = x509.CertificateBuilder(name, name, ROOT_KEY.public_key(), 7, NOW - DAY, NOW + DAY)
    for extension in known.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    odd = disordered(builder.sign(ROOT_KEY, hashes.SHA256()), ROOT_KEY)
    with pytest.raises(ValueError, match="SetOrdering"):
        x509.load_der_x509_certificate(odd)
    root = load_vendor_certificate(odd)
    assert (root.der, root.quirks, root.is_issued_by(root)) == (odd, ("set-order",), True)
    leaf = LEAF.make()
    builder = x509.CertificateBuilder(name, leaf.subject, EK.public_key(), 8, NOW - DAY, NOW + DAY)
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    data = disordered(builder.sign(ROOT_KEY, hashes.SHA256()), ROOT_KEY)
    assert codes(data, Anchors([root])) == []
    forged = bytearray(data)
    forged[-1] ^= 1
    assert codes(bytes(forged), Anchors([root])) == [(1, "ek-chain")]
    assert codes(disordered(builder.sign(ROOT_KEY, hashes.SHA256()), OTHER), Anchors([root])) == [(1, "ek-chain")]
