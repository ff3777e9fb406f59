"""`python -m tests.service.same_key STEP [CERTIFICATE]`: a step of a renewal with the same key, in its own session.

For a SoftHSM token: no shipped card can be written and hold two certificates for one key, a token can. PIN on standard
input; prints the certificates of project `atlas` (hex), or the PKCS#10, and a line for each signature that was checked.
"""

from __future__ import annotations

import os
import sys

import msgspec

from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.protocol.values import Container
from sdbox.smartcard.pkcs11_backend import Pkcs11Session
from sdbox.smartcard.variants import Renewal, variant_named


def main() -> None:
    """Do the step; ends as the worker does."""
    variant = msgspec.structs.replace(variant_named("softhsm"), renewal=Renewal.SAME_KEY)
    session = Pkcs11Session(variant, "")
    session.login(bytearray(sys.stdin.readline().strip().encode()))
    step, *rest = sys.argv[1:]
    old = oldest(session)
    if step == "request":
        renewing = session.renewal(old.certificate)
        key_id = renewing.new_key()
        assert key_id == old.key_id
        print(renewing.request(key_id).hex())
    elif step == "write":
        session.renewal(old.certificate).write(old.key_id, bytes.fromhex(rest[0]))
    elif step == "retire":
        session.renewal(old.certificate).retire(session.container(bytes.fromhex(rest[0])))
    session.read_again()
    for container in atlas(session):
        session.sign(container.key_id, b"content", SCHEMES)  # checked by the certificate's key before it is returned
        print("signed", container.certificate.hex())
    sys.stdout.flush()
    session.close()
    os._exit(0)


def atlas(session: Pkcs11Session) -> list[Container]:
    return [one for one in session.read_again().containers if one.project == "atlas"]


def oldest(session: Pkcs11Session) -> Container:
    """Return the first that was written: SoftHSM lists objects in no order, so by what the caller says is new."""
    new = bytes.fromhex(sys.argv[2]) if len(sys.argv) > 2 else b""
    return next((one for one in atlas(session) if one.certificate != new), atlas(session)[0])


if __name__ == "__main__":
    main()
