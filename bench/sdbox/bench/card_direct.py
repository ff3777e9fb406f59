"""`python card_direct.py VARIANT READER TURNS`: signatures by the PKCS#11 module alone, in one process.

What the worker's signatures are compared with: no socket, no second look at the card, no check of the signature. The
PIN, if the card takes one, is the line on standard input. Prints the seconds of each signature as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Final

from sdbox.protocol.authenticator_request import SCHEMES
from sdbox.smartcard.certificates import choose_scheme, digest_of, public_key_of
from sdbox.smartcard.cryptoki import PROTECTED_AUTH, Attribute, Mechanism, ObjectClass, Slot, TokenFlag, load_module
from sdbox.smartcard.keystore import sign_digest, value_of
from sdbox.smartcard.pkcs11_backend import slot_descriptions
from sdbox.smartcard.variants import module_path, variant_named

CONTENT: Final = b"content"


def main() -> None:
    """Measure."""
    variant, reader, turns = variant_named(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    pin = sys.stdin.readline().strip()
    label = variant.module.token if variant.module else None
    slot = _slot(load_module(module_path(variant)), reader, label)
    credential = pin if pin or variant.login.empty_pin else PROTECTED_AUTH
    with slot.get_token().open(user_pin=credential) as session:
        print(json.dumps(_times(session, slot, turns)), flush=True)
        os._exit(0)  # SoftHSM may crash in Python's clean-up (SoftHSMv2 #729)


def _slot(library: Any, reader: str, label: str | None) -> Slot:  # noqa: ANN401 - python-pkcs11 is untyped here
    for slot in library.get_slots(token_present=True):
        token: Any = slot.get_token()
        ours = token.label == label if label else slot.slot_description in slot_descriptions(reader)
        if ours and token.flags & TokenFlag.LOGIN_REQUIRED:
            found: Slot = slot
            return found
    raise RuntimeError("the module shows no token")


def _times(session: Any, slot: Slot, turns: int) -> list[float]:  # noqa: ANN401 - as above
    keys = {bytes(key[Attribute.ID]): key for key in session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})}
    pss = Mechanism.RSA_PKCS_PSS in slot.get_mechanisms()
    for certificate in list(
        session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE})
    ):  # a search is an operation
        key, public = keys.get(bytes(certificate[Attribute.ID])), public_key_of(value_of(certificate))
        offered = [scheme for scheme in SCHEMES if pss or scheme != 0x0804]
        scheme = None if public is None else choose_scheme(public, offered)
        if key is not None and scheme is not None and key[Attribute.SIGN]:
            return [_timed(key, scheme) for _ in range(turns)]
    raise RuntimeError("no key that signs")


def _timed(key: Any, scheme: Any) -> float:  # noqa: ANN401 - as above
    start = time.perf_counter()
    sign_digest(key, scheme, digest_of(scheme, CONTENT))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
