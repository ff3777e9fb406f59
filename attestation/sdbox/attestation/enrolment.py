"""Enrolment on the machine itself: read its TPM's endorsement key, so that the inventory can bind it to the box."""

from __future__ import annotations

import datetime as dt
import hmac
import os

from sdbox.attestation.credential import SECRET_SIZE, make_credential
from sdbox.attestation.factory import Record
from sdbox.attestation.keys import public_key
from sdbox.attestation.structures import StructureError, name_of, parse_public
from sdbox.attestation.tpm import Tpm
from sdbox.protocol.reasons import Reason, Refusal
from sdbox.protocol.values import BoxId


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
