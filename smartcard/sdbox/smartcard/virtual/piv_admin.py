"""The card administrator of an emulated PIV card: key 9B, and what it lets one write.

SP 800-73-5 part 2, appendix A.1: the card gives a challenge, the host returns it encrypted. How a card takes a finger's
template is its maker's affair; here it is CHANGE REFERENCE DATA with P1 = 1, new data only (ISO 7816-4, 11.6.7).
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sdbox.smartcard.virtual.apdu import Command, Status, word
from sdbox.smartcard.virtual.piv_references import FingerReference
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

DEVELOPMENT_KEY: Final = bytes(range(1, 9)) * 2  # of emulated cards only
ADMINISTRATOR: Final = 0x9B
AES_128: Final = 0x08
BLOCK: Final = 16
DYNAMIC, CHALLENGE, RESPONSE = 0x7C, 0x81, 0x82


class Administrator:
    """Whether the one who talks to the card has shown that they hold key 9B."""

    def __init__(self, key: bytes = DEVELOPMENT_KEY) -> None:
        self._key = key
        self.power()

    def power(self) -> None:
        self.is_known = False
        self._challenge: bytes | None = None

    def authenticate(self, command: Command) -> bytes:
        """GENERAL AUTHENTICATE 9B: 7C { 81 empty } asks for a challenge, 7C { 82 cipher } answers it, once."""
        try:
            ((_, template),) = parse_tlvs(command.data)
            ((tag, value),) = parse_tlvs(template)
        except ValueError:
            return word(Status.WRONG_DATA)
        if tag == CHALLENGE and not value:  # with whatever algorithm: OpenSC has random bytes from here
            self._challenge = secrets.token_bytes(BLOCK)
            return tlv(DYNAMIC, tlv(CHALLENGE, self._challenge)) + word(Status.OK)
        asked, self._challenge = self._challenge, None
        answered = asked is not None and tag == RESPONSE and command.p1 == AES_128
        self.is_known = answered and secrets.compare_digest(value, self._encrypt(asked or b""))
        return word(Status.OK if self.is_known else Status.NOT_ALLOWED)

    def enrol(self, finger: FingerReference | None, command: Command) -> bytes:
        """CHANGE REFERENCE DATA 24 01 96: the new template, 3 bytes per minutia, as VERIFY wants it."""
        if finger is None or command.p1 != 1:
            return word(Status.WRONG_PARAMETERS)
        if not self.is_known:
            return word(Status.NOT_ALLOWED)
        if not finger.takes(command.data):
            return word(Status.WRONG_DATA)
        finger.enrol(command.data)
        return word(Status.OK)

    def _encrypt(self, block: bytes) -> bytes:
        encryptor = Cipher(algorithms.AES(self._key), modes.ECB()).encryptor()  # noqa: S305 - one block, as PIV has it
        return encryptor.update(block) + encryptor.finalize()
