"""Certificates and requests that a card or a TPM may show and no honest CA makes: each is refused by its name, and what
else the card shows is judged as if it were not there. The library raises late, and not always a ValueError.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sdbox.attestation.endorsement import Anchors, certificate_failures
from sdbox.gateway.cards import CardPolicy, read_container, readable
from sdbox.gateway.issuing import read_request
from sdbox.protocol.reasons import Reason, Refusal
from tests.unit.channel_certificates import Authority, name

# The library means to refuse such a number one day, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
NAMES = x509.ObjectIdentifier("2.5.29.17")
USAGE = x509.ObjectIdentifier("2.5.29.15")
KEY = ec.generate_private_key(ec.SECP256R1())
CARDS = Authority("card CA")
URI = b"urn:sdbox:project:atlas"
END = b"20600101000000Z"


def names(*others: bytes) -> bytes:
    """Return a SAN (DER) with the project and general names that are none."""
    body = bytes([0x86, len(URI)]) + URI + b"".join(others)
    return bytes([0x30, len(body)]) + body


def made(alternative: bytes = names(), usage: bytes = b"\x03\x02\x07\x80", *, serial: int = 5) -> bytes:
    start, end = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2060, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name("card CA"), name("holder"), KEY.public_key(), serial, start, end)
    builder = builder.add_extension(x509.UnrecognizedExtension(NAMES, alternative), critical=False)
    builder = builder.add_extension(x509.UnrecognizedExtension(USAGE, usage), critical=False)
    return builder.sign(CARDS.key, hashes.SHA256()).public_bytes(Encoding.DER)


def patched(old: bytes, new: bytes) -> bytes:
    der = made()
    assert der.count(old) >= 1
    return der.replace(old, new, 1)


UNREADABLE = {
    "year 0": patched(END, b"00000101000000Z"),
    "month 13": patched(END, b"20601301000000Z"),
    "ends before it begins": patched(END, b"20200101000000Z"),
    "number 0": patched(b"\x02\x01\x05", b"\x02\x01\x00"),
    "number below 0": patched(b"\x02\x01\x05", b"\x02\x01\xff"),
    "version 5": patched(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04"),
    "version 1 with extensions": patched(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00"),
    "an X.400 address": made(names(b"\xa3\x02\x30\x00")),
    "an EDI party": made(names(b"\xa5\x02\x30\x00")),
    "an address of three bytes": made(names(b"\x87\x03abc")),
    "an identifier that does not end": made(names(b"\x88\x01\x80")),
    "names that are none": made(b"\x30\x05abc"),
    "usage that is none": made(usage=b"abc"),
    "names twice": patched(b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x11"),
    "nothing": b"",
    "a half": made()[:100],
    "more": made() + b"\0",
}
FOREIGN = {  # readable, and not by a CA of ours once it was changed
    "a point off the curve": patched(KEY.public_key().public_numbers().x.to_bytes(32, "big"), bytes(32)),
    "an unknown curve": patched(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030109")),
    "an unknown signature": patched(bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04037f")),
    "an issuer that is no text": patched(b"card CA", b"card \xff\xfe"),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> CardPolicy:
    authority = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.write_bytes(CARDS.certificate.public_bytes(Encoding.PEM))
    return CardPolicy(authority, {}, lambda _: False)


def test_the_one_that_all_are_made_from(policy: CardPolicy) -> None:
    container = read_container(made())
    assert (container.project, policy.certificate_fault(container)) == ("atlas", None)


@pytest.mark.parametrize("what", UNREADABLE)
def test_unreadable(policy: CardPolicy, what: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_container(UNREADABLE[what])
    assert caught.value.reason is Reason.CARD_PROOF
    assert [offer.reason for offer in policy.offers(readable([UNREADABLE[what], made()]))] == ["project-no-bubble"]


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign(policy: CardPolicy, what: str) -> None:
    offers = policy.offers(readable([FOREIGN[what], made()]))
    assert [offer.reason for offer in offers] == ["certificate-issuer", "project-no-bubble"]


def test_a_number_that_nobody_could_revoke() -> None:
    """`sdbox-gateway revoke` takes 40 hex digits, as RFC 5280, 4.1.2.2 allows 20 bytes."""
    longest = made(serial=(1 << 159) - 1)
    assert read_container(longest).serial == "7" + "f" * 39
    number = b"\x02\x14\x7f" + b"\xff" * 19
    grown = longest.replace(number, b"\x02\x16\x7f" + b"\xff" * 21)
    for before in (longest, longest[4:]):  # the certificate and, in it, what is signed: two bytes more each
        grown = grown.replace(before[:4], before[:2] + (int.from_bytes(before[2:4], "big") + 2).to_bytes(2, "big"), 1)
    assert x509.load_der_x509_certificate(grown).serial_number == (1 << 175) - 1
    with pytest.raises(Refusal):
        read_container(grown)


@pytest.mark.parametrize("other", [b"\xa3\x02\x30\x00", b"\xa5\x02\x30\x00", b"\x87\x03abc"])
def test_a_request_with_such_names(other: bytes) -> None:
    old = CARDS.project(KEY.public_key(), "atlas")
    builder = x509.CertificateSigningRequestBuilder(old.subject)
    builder = builder.add_extension(x509.UnrecognizedExtension(NAMES, names(other)), critical=False)
    request = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(Refusal) as caught:
        read_request(old, request, ["p256"])
    assert caught.value.reason is Reason.RENEWAL_REFUSED


ENDORSEMENT = rsa.generate_private_key(65537, 2048)


def endorsement(change: Callable[[bytes], bytes]) -> list[str]:
    """Return what is found wrong with an endorsement certificate after `change`."""
    start, end = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2060, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name("a maker"), name("a TPM"), ENDORSEMENT.public_key(), 5, start, end)
    der = builder.sign(CARDS.key, hashes.SHA256()).public_bytes(Encoding.DER)
    found = certificate_failures(change(der), ENDORSEMENT.public_key(), Anchors([], []), start)
    return [failure.code for failure in found]


def test_an_endorsement_certificate_as_odd() -> None:
    assert endorsement(lambda der: der) == ["ek-usage", "ek-chain"]
    assert endorsement(lambda der: der.replace(END, b"00000101000000Z")) == ["ek-malformed"]
    assert endorsement(lambda der: der.replace(b"a maker", b"a \xff\xfeker")) == ["ek-malformed"]
