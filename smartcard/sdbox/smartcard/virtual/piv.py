"""A PIV card (SP 800-73-5 parts 1 and 2): what OpenSC's PIV-II driver sends (0.23, 0.26), and on-card comparison.

Its key references say what opens it: the PIN, fingers, or both. The first project's key is 9A, the others are retired
key management keys 82 to 95. Left out: 9C, 9D, 9E, card management but for a finger's template, PUK, secure messaging.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from sdbox.smartcard.virtual.apdu import MORE_DATA, SHORT, TRIES_LEFT, Command, Status, parse_command, word
from sdbox.smartcard.virtual.keys import ecdsa_der, rsa_raw
from sdbox.smartcard.virtual.personalise import CardKey, FilledContainer, Flaw
from sdbox.smartcard.virtual.piv_admin import ADMINISTRATOR, Administrator
from sdbox.smartcard.virtual.piv_references import (
    FINGER_POLICY,
    MAX_TRIES,
    PIN_POLICY,
    FingerReference,
    PinReference,
    Reference,
    bit_group,
)
from sdbox.smartcard.virtual.sensor import Report
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ATR: Final = bytes.fromhex("3BDB9600801F030031C064B0F3100007900080")
OCC_ATR: Final = bytes.fromhex("3BD8180080B1FE451F078031C1640806920FD5")  # IDEMIA (Oberthur) Cosmo V8, PIV
AID: Final = bytes.fromhex("A000000308000010000100")
AID_SHORT: Final = 9
SLOTS: Final = (0x9A, *range(0x82, 0x96))
OBJECTS: Final = {0x9A: 0x5FC105, **{0x82 + index: 0x5FC10D + index for index in range(20)}}
CHUID, CCC, DISCOVERY, KEY_HISTORY, BIT_GROUP = 0x5FC102, 0x5FC107, 0x7E, 0x5FC10C, 0x7F61
# Agency 9999: not a US agency's card. Only then OpenSC takes the GUID as serial and lets retired keys sign.
FASC_N: Final = bytes.fromhex("D4E739DA739CED39CE739D836858210842108421C84210C3EB")
ALGORITHMS: Final = {"rsa": 0x07, "secp256r1": 0x11, "secp384r1": 0x14}  # SP 800-78-5, table 10
CHAINED: Final = 0x10
CHAIN_LIMIT: Final = 4096

Handler = Callable[[Command], bytes]


class PivCard:
    """The card. Objects, keys and retry counter stay when the power goes; selection and PIN state do not."""

    def __init__(
        self,
        serial: str,
        containers: Sequence[FilledContainer],
        references: Mapping[int, Reference],
        report: Report,
        *,
        atr: bytes = ATR,
    ) -> None:
        if len(containers) > len(SLOTS):
            raise ValueError(f"a PIV card holds {len(SLOTS)} projects")
        self.atr = atr
        self._report = report
        self._references = dict(references)
        self._fingers = {key: found for key, found in references.items() if isinstance(found, FingerReference)}
        self._administrator = Administrator()
        slots = dict(zip(SLOTS, containers, strict=False))
        self._keys: dict[int, CardKey] = {slot: container.key for slot, container in slots.items()}
        self._objects = _data_objects(serial, slots)
        self._objects[DISCOVERY] = _discovery(references.values())
        self._handlers: dict[int, Handler] = {
            0xA4: self._select,
            0xC0: self._get_response,
            0xCB: self._get_data,
            0x20: self._verify,
            0x24: self._change_reference,
            0x87: self._general_authenticate,
        }
        self.power()

    def power(self) -> None:
        self._selected = False
        self._open: set[int] = set()  # key references that have been verified
        self._answer = b""
        self._chain = b""
        self._administrator.power()

    def pulled(self) -> None:
        """Nothing on this card waits."""

    def block(self) -> None:
        """Bring all counters to zero, as wrong PINs and fingers would."""
        for reference in self._references.values():
            reference.tries = 0

    def process(self, apdu: bytes) -> bytes:
        try:
            command = parse_command(apdu)
        except ValueError:
            return word(Status.WRONG_LENGTH)
        if command.cla & CHAINED:
            self._chain = (self._chain + command.data)[:CHAIN_LIMIT]
            return word(Status.OK)
        if command.cla != 0:
            return word(Status.NO_CLASS)
        data, self._chain = self._chain + command.data, b""
        handler = self._handlers.get(command.ins)
        if handler is None or not (self._selected or command.ins == 0xA4):
            return word(Status.NO_INSTRUCTION)
        whole = Command(command.cla, command.ins, command.p1, command.p2, data, command.length)
        return handler(whole)

    def _send(self, data: bytes, length: int | None) -> bytes:
        """Answer with `data`, in parts where it is longer than asked for (ISO 7816-4, clause 5.3.4)."""
        size = length or SHORT
        part, self._answer = data[:size], data[size:]
        left = len(self._answer)
        return part + word(MORE_DATA | min(left, 0xFF) if left else Status.OK)

    def _get_response(self, command: Command) -> bytes:
        return self._send(self._answer, command.length)

    def _select(self, command: Command) -> bytes:
        self.power()  # selecting anything loses what was verified
        if len(command.data) < AID_SHORT or not AID.startswith(command.data):
            return word(Status.NOT_FOUND)
        self._selected = True
        authority = tlv(0x79, tlv(0x4F, AID[:5]))
        return self._send(tlv(0x61, tlv(0x4F, AID[5:]), authority, tlv(0x50, b"SDBOX PIV")), command.length)

    def _get_data(self, command: Command) -> bytes:
        try:
            ((_, tag),) = parse_tlvs(command.data)
        except ValueError:
            return word(Status.WRONG_DATA)
        wanted = int.from_bytes(tag, "big")
        found = bit_group(self._fingers) if wanted == BIT_GROUP and self._fingers else self._objects.get(wanted)
        return word(Status.NOT_FOUND) if found is None else self._send(found, command.length)

    def _verify(self, command: Command) -> bytes:
        reference = self._references.get(command.p2)
        if reference is None or not reference.is_set:
            return word(Status.NO_REFERENCE)
        if command.p1 == 0xFF:
            self._open.discard(command.p2)
            return word(Status.OK)
        if command.data:
            return self._compare(command.p2, reference, command.data)
        return word(Status.OK) if command.p2 in self._open else _counter(reference)

    def _compare(self, key: int, reference: Reference, candidate: bytes) -> bytes:
        if not reference.tries:
            return word(Status.BLOCKED)
        if not reference.takes(candidate):
            return word(Status.WRONG_DATA)  # costs no try
        self._open.discard(key)
        same = reference.compare(candidate)
        reference.tries = MAX_TRIES if same else reference.tries - 1
        self._report(f"verify tries={reference.tries}")
        if not same:
            return _counter(reference)
        self._open.add(key)
        return word(Status.OK)

    def _change_reference(self, command: Command) -> bytes:
        answer = self._administrator.enrol(self._fingers.get(command.p2), command)
        if answer == word(Status.OK):
            self._open.discard(command.p2)
            self._report("write")
        return answer

    def _general_authenticate(self, command: Command) -> bytes:
        """7C { 82 empty, 81 challenge } -> 7C { 82 signature } (SP 800-73-5 part 2, 3.2.4)."""
        if command.p2 == ADMINISTRATOR:
            return self._administrator.authenticate(command)
        key = self._keys.get(command.p2)
        if key is None:
            return word(Status.NO_REFERENCE)
        if not self._open:
            return word(Status.NOT_ALLOWED)
        if command.p1 != ALGORITHMS["rsa" if isinstance(key, rsa.RSAPrivateKey) else key.curve.name]:
            return word(Status.WRONG_PARAMETERS)
        try:
            ((_, template),) = parse_tlvs(command.data)
            signature = _sign(key, dict(parse_tlvs(template))[0x81])
        except (ValueError, KeyError):
            return word(Status.WRONG_DATA)
        self._report("sign")
        return self._send(tlv(0x7C, tlv(0x82, signature)), command.length)


def _sign(key: CardKey, challenge: bytes) -> bytes:
    """Raw RSA, as the padding comes from outside; ECDSA as DER."""
    return rsa_raw(key, challenge) if isinstance(key, rsa.RSAPrivateKey) else ecdsa_der(key, challenge)


def _counter(reference: Reference) -> bytes:
    return word(TRIES_LEFT | reference.tries if reference.tries else Status.BLOCKED)


def _discovery(references: Iterable[Reference]) -> bytes:
    """Return the discovery object (part 1, section 3.3.2): its usage policy says what opens the keys."""
    policy = 0
    for reference in references:
        policy |= PIN_POLICY if isinstance(reference, PinReference) else FINGER_POLICY
    return tlv(DISCOVERY, tlv(0x4F, AID), tlv(0x5F2F, bytes([policy, 0])))


def _data_objects(serial: str, slots: dict[int, FilledContainer]) -> dict[int, bytes]:
    """Return the data objects as GET DATA answers them (SP 800-73-5 part 1, annex A)."""
    guid = hashlib.sha256(f"sdbox-piv-{serial}".encode()).digest()[:16]
    end = tlv(0xFE)
    chuid = tlv(0x30, FASC_N) + tlv(0x34, guid) + tlv(0x35, b"20991231") + tlv(0x3E) + end
    capabilities = tlv(0xF0, b"\xa0\x00\x00\x01\x16\xff\x02" + bytes(14)) + b"".join(
        tlv(tag) for tag in (0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE)
    )
    retired = sum(1 for slot in slots if slot != SLOTS[0])
    history = tlv(0xC1, bytes([retired])) + tlv(0xC2, b"\x00") + end
    objects = {CHUID: chuid, CCC: capabilities, KEY_HISTORY: history}
    for slot, container in slots.items():
        whole = tlv(0x70, container.certificate) + tlv(0x71, b"\x00") + end
        objects[OBJECTS[slot]] = whole[: len(whole) // 2] if container.flaw is Flaw.TORN else whole
    return {tag: tlv(0x53, value) for tag, value in objects.items()}
