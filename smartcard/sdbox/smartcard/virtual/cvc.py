"""Card-verifiable certificates (BSI TR-03110-3, appendix C): the chain by which a card's device key is believed.

Root, issuer and device have brainpoolP256r1 keys, as SmartCard-HSMs do. OpenPACE looks for the root in /etc/eac/cvc,
under its holder reference as file name, takes the curve from it (the only one of the three to carry parameters), and
compares the dates of the other two with the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ROOT_REFERENCE: Final = "XXSDBOXCVCA00001"  # country (XX: nobody's), holder mnemonic, sequence
ISSUER_REFERENCE: Final = "XXSDBOXDICA00001"
ROOT_FOLDER: Final = "etc/eac/cvc"  # Debian's OpenSC was built with it; no setting changes it
ECDSA_SHA256: Final = bytes.fromhex("04007F00070202020203")
SC_HSM_ROLE: Final = bytes.fromhex("2B0601040181C31F030101")
ROOT, ISSUER, DEVICE = 0xC0, 0x80, 0x00  # roles: the upper two bits of the authorisation
CERTIFICATE, BODY, AUTHORITY, PUBLIC_KEY, HOLDER, SIGNATURE = 0x7F21, 0x7F4E, 0x42, 0x7F49, 0x5F20, 0x5F37
SIZE: Final = 32  # bytes of a coordinate
SLACK: Final = timedelta(days=1)
LIFETIME: Final = timedelta(days=3650)

PRIME: Final = 0xA9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E5377
A: Final = 0x7D5A0975FC2C3057EEF67530417AFFE7FB8055C126DC5C6CE94A4B44F330B5D9
B: Final = 0x26DC5C6CE94A4B44F330B5D9BBD77CBF958416295CF7E1CE6BCCDC18FF8C07B6
BASE: Final = bytes.fromhex(
    "048BD2AEB9CB7E57CB2C4B482FFC81B7AFB9DE27E1E3BD23C23A4453BD9ACE3262"
    "547EF835C3DAC4FD97F8461A14611DC9C27745132DED8E545C1D54C72F046997"
)
ORDER: Final = 0xA9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key on brainpoolP256r1 (RFC 5639, clause 3.4)."""
    return ec.generate_private_key(ec.BrainpoolP256R1())


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the public point, uncompressed (SEC 1, clause 2.3.3)."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


@dataclass(frozen=True, slots=True, repr=False)
class Holder:
    """Who a certificate is about. No `repr`: it holds a key (S8)."""

    reference: str
    key: ec.EllipticCurvePrivateKey
    role: int

    @classmethod
    def root(cls, key: ec.EllipticCurvePrivateKey) -> Self:
        return cls(ROOT_REFERENCE, key, ROOT)

    @classmethod
    def load_root(cls, path: Path) -> Self:
        """Read the root's key (PEM, PKCS#8); ValueError if it is not one of brainpoolP256r1."""
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.BrainpoolP256R1):
            raise ValueError("the root of the cards' device keys must be a brainpoolP256r1 key")  # noqa: TRY004
        return cls.root(key)


def untrusted_root() -> Holder:
    """Return a new root that nobody trusts."""
    return Holder.root(generate_key())


def certify(holder: Holder, authority: Holder) -> bytes:
    """Return the certificate of `holder`, valid from yesterday for ten years, signed by `authority`."""
    begin = datetime.now(UTC).date() - SLACK
    body = tlv(
        BODY,
        tlv(0x5F29, b"\x00"),
        tlv(AUTHORITY, authority.reference.encode()),
        _public_key(holder),
        tlv(HOLDER, holder.reference.encode()),
        tlv(0x7F4C, tlv(0x06, SC_HSM_ROLE), tlv(0x53, bytes([holder.role]))),
        tlv(0x5F25, _digits(begin)),
        tlv(0x5F24, _digits(begin + LIFETIME)),
    )
    r, s = utils.decode_dss_signature(authority.key.sign(body, ec.ECDSA(hashes.SHA256())))
    return tlv(CERTIFICATE, body, tlv(SIGNATURE, r.to_bytes(SIZE, "big") + s.to_bytes(SIZE, "big")))


def device_chain(root: Holder, device: Holder) -> bytes:
    """Return what EF.C_DevAut holds: the device's certificate, then its issuer's."""
    issuer = Holder(ISSUER_REFERENCE, generate_key(), ISSUER)
    return certify(device, issuer) + certify(issuer, root)


def holder_reference(certificate: bytes) -> str:
    """Return whom a certificate is about; ValueError if it is not a card-verifiable certificate."""
    try:
        body = dict(parse_tlvs(dict(parse_tlvs(certificate))[CERTIFICATE]))[BODY]
        return dict(parse_tlvs(body))[HOLDER].decode("ascii")
    except KeyError as error:
        raise ValueError("not a card-verifiable certificate") from error


def _public_key(holder: Holder) -> bytes:
    public = tlv(0x86, point(holder.key.public_key()))
    if holder.role != ROOT:
        return tlv(PUBLIC_KEY, tlv(0x06, ECDSA_SHA256), public)
    prime, a, b, order = (number.to_bytes(SIZE, "big") for number in (PRIME, A, B, ORDER))
    curve = tlv(0x81, prime) + tlv(0x82, a) + tlv(0x83, b) + tlv(0x84, BASE) + tlv(0x85, order)
    return tlv(PUBLIC_KEY, tlv(0x06, ECDSA_SHA256), curve, public, tlv(0x87, b"\x01"))


def _digits(day: date) -> bytes:
    """Return YYMMDD, one digit a byte (TR-03110-3, D.2.1.3)."""
    return bytes(int(digit) for digit in day.strftime("%y%m%d"))
