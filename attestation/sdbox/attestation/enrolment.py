"""Enrolment on the machine itself: read its TPM's endorsement key, so that the inventory can bind it to the box."""

from __future__ import annotations

import datetime as dt
import hmac
import os
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sdbox.attestation.credential import SECRET_SIZE, make_credential
from sdbox.attestation.factory import Record
from sdbox.attestation.keys import PublicKey, public_key
from sdbox.attestation.structures import StructureError, name_of, parse_public
from sdbox.attestation.tpm import Tpm
from sdbox.attestation.vendorcert import load_vendor_certificate, pem_of
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A TPM's EK as PEM: SubjectPublicKeyInfo, and its certificate if the TPM holds one."""

    public_pem: str
    certificate_pem: str | None


def read_box(tpm: Tpm, box: BoxId, serial: str) -> Record:
    """Return the factory's record of the box with `tpm`, which has to open a credential: it holds the private key.

    Refusal with one of the BOX_TPM reasons, BOX_ACTIVATION if the TPM does not hold the key that it shows.
    """
    area, secret = tpm.ek_public(), os.urandom(SECRET_SIZE)
    try:
        credential = make_credential(public_key(parse_public(area)), tpm.ak_name(), secret)
    except StructureError as error:
        raise Refusal(Reason.BOX_TPM, f"endorsement key: {error}") from error
    if not hmac.compare_digest(tpm.activate(*credential, name_of(area)), secret):
        raise Refusal(Reason.BOX_ACTIVATION, "the TPM opened another secret than was wrapped")
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return Record(str(box), serial, area, tpm.ek_certificate(), now)


def read_endorsement(tpm: Tpm) -> Endorsement:
    """Return the EK of `tpm`; Refusal(BOX_TPM) if its certificate is unreadable or for another key (checklist 2)."""
    try:
        ek = public_key(parse_public(tpm.ek_public()))
    except StructureError as error:
        raise Refusal(Reason.BOX_TPM, f"endorsement key: {error}") from error
    spki = ek.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    der = tpm.ek_certificate()
    return Endorsement(spki, None if der is None else certificate_pem(der, ek))


def certificate_pem(der: bytes, ek: PublicKey) -> str:
    """Return the certificate of an NV index as PEM; Refusal(BOX_TPM) unless it is one for `ek`."""
    try:
        certificate = load_vendor_certificate(der)
        same = certificate.parsed.public_key() == ek
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refusal(Reason.BOX_TPM, "endorsement certificate: not a certificate") from error
    if not same:
        raise Refusal(Reason.BOX_TPM, "endorsement certificate: for another key")
    return pem_of(certificate)
