"""Inputs that the parsers take, to begin with: recorded evidence, and what the emulated cards and readers say."""

from __future__ import annotations

import gzip
import json
import random
import struct

from sdbox.attestation.evidencefile import read_evidence
from sdbox.bench.fuzz import answers
from sdbox.bench.fuzz_certificates import card_der, renewal_der
from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.eventtypes import EV_EFI_VARIABLE_DRIVER_CONFIG
from sdbox.boot.microcode import Microcode, encode_microcode
from sdbox.image.source import find_source
from sdbox.protocol import messages as m
from sdbox.protocol.wire import encode
from sdbox.smartcard.frames import AskSign, TellContainer, TellIdentity, encode_frame
from sdbox.smartcard.sensor_frames import Kind
from sdbox.smartcard.sensor_frames import encode as frame
from sdbox.smartcard.tlv import tlv
from sdbox.smartcard.virtual.ccid import HEADER, Message
from sdbox.smartcard.virtual.fingers import capture, finger_named
from sdbox.smartcard.virtual.piv_references import PRIMARY_FINGER, FingerReference, bit_group

_OK = b"\x90\x00"


def seeds() -> dict[str, list[bytes]]:
    """Return the inputs by target."""
    return _of_evidence() | _of_messages() | _of_cards() | _of_certificates()


def _of_evidence() -> dict[str, list[bytes]]:
    folder = find_source().root / "tests" / "vectors" / "evidence"
    files = [(folder / f"{name}.json").read_bytes() for name in ("good", "secure-boot-off")]
    recorded = [read_evidence(data).evidence for data in files]
    events = parse_event_log(recorded[0].event_log).events
    return {
        "eventlog": [one.event_log for one in recorded],
        "notes": [b"15 9 00ff\n11 13 00\n"],
        "microcode": [encode_microcode(Microcode(0x306A9, 0x21))],
        "quote": [one.attest for one in recorded],
        "signature": [one.signature for one in recorded],
        "key": [one.ak_public for one in recorded],
        "variable": [event.data for event in events if event.type == EV_EFI_VARIABLE_DRIVER_CONFIG],
        "evidence": files,
        "reference": [(folder / "reference.json").read_bytes()],
        "profile": [(folder / "firmware.json").read_bytes()],
        "policy": [json.dumps({"minimum_image_version": 1, "microcode": {"000306a9": 1}}).encode()],
        "image": [_image()],
        "message": [
            encode(m.EvidenceMessage(recorded[0].attest, recorded[0].signature, b"", b"", recorded[0].pcrs))[4:]
        ],
    }


def _of_messages() -> dict[str, list[bytes]]:
    offers = m.Offers((m.OfferItem("atlas", "Atlas", "Atlas", None, bytes(32)),), bytes(32))
    sign = AskSign(b"\x01", b"content", (0x0403, 0x0804))
    identity = TellIdentity("serial", (TellContainer(b"\x01", "label", b"certificate", "atlas"),))
    messages = [
        m.Challenge(bytes(32), b"id", b"secret", bytes(34), (4, 7, 11)),
        offers,
        m.Refused("box-unknown", fatal=True),
    ]
    return {
        "reply": [encode(one)[4:] for one in messages],
        "worker-ask": [bytes(encode_frame(sign)[4:])],
        "worker-tell": [bytes(encode_frame(identity)[4:])],
    }


def _of_certificates() -> dict[str, list[bytes]]:
    card = card_der()
    # Certificate, CertificateVerify and Finished (RFC 8446, 4.4): the lengths fit, the signature does not.
    entry = len(card).to_bytes(3, "big") + card + bytes(2)
    parts = [b"\x07context" + len(entry).to_bytes(3, "big") + entry, b"\x04\x03\x00\x46" + bytes(70), bytes(32)]
    framed = [
        bytes([kind]) + len(part).to_bytes(3, "big") + part for kind, part in zip((11, 15, 20), parts, strict=True)
    ]
    return {
        "certificate": [card],
        "container": [card],
        "card-proof": [card],
        "authenticator": [b"".join(framed)],
        "renewal-request": [renewal_der()],
    }


def _of_cards() -> dict[str, list[bytes]]:
    touch = capture(finger_named("good"), random.Random(1))  # noqa: S311 - must be repeatable, not secret
    fingers = bit_group({PRIMARY_FINGER: FingerReference(b"")})
    plain = card_der()
    held = [tlv(0x53, tlv(0x70, gzip.compress(plain)), tlv(0x71, b"\x01"), tlv(0xFE))]
    held += [tlv(0x53, tlv(0x70, plain), tlv(0x71, b"\x00"), tlv(0xFE))]
    said = [
        tlv(0x61, tlv(0x4F, bytes(11))),
        tlv(0x7E, tlv(0x4F, bytes(11)), tlv(0x5F2F, b"\x50\x10")),
        fingers,
        tlv(0x53, tlv(0x30, bytes(25)), tlv(0x34, bytes(range(16))), tlv(0xFE)),
        tlv(0x53, tlv(0xC1, b"\x01"), tlv(0xC2, b"\x00"), tlv(0xFE)),
        *held,
    ]
    signature = tlv(0x7C, tlv(0x82, bytes(70))) + _OK
    card = answers(*(part + _OK for part in said), b"\x63\xc3", signature)
    power, status = (HEADER.pack(kind, 0, 0, 1, bytes(3)) for kind in (Message.POWER_ON, Message.GET_SLOT_STATUS))
    select = HEADER.pack(Message.XFR_BLOCK, 5, 0, 2, bytes(3)) + bytes.fromhex("00A4040000")
    return {
        "minutiae": [bytes(touch)],
        "sensor": [bytes(frame(Kind.WAITING, 7) + frame(Kind.TEMPLATE, 7, touch))],
        "bit-group": [fingers],
        "tlv": [*said, tlv(0x7F49, tlv(0x86, bytes(65)))],
        "apdu": [answers(_OK, b"\x01\x02\x61\x02", b"\x03\x04" + _OK), answers(_OK, b"\x6c\x03", b"\x01" + _OK)],
        "piv": [card],
        "piv-certificate": [gzip.compress(plain)],
        "ccid": [power + status + select],
    }


def _image() -> bytes:
    """Return the least PE32+ image that has an Authenticode digest: headers and one section."""
    data = bytearray(1024)
    data[:2], data[0x80:0x84] = b"MZ", b"PE\0\0"
    struct.pack_into("<I", data, 0x3C, 0x80)
    struct.pack_into("<H12xH", data, 0x86, 1, 240)
    struct.pack_into("<H", data, 0x98, 0x20B)
    struct.pack_into("<I", data, 0x98 + 60, 0x200)
    struct.pack_into("<I", data, 0x98 + 108, 16)
    struct.pack_into("<8sIIII", data, 0x98 + 240, b".linux", 0x200, 0x1000, 0x200, 0x200)
    return bytes(data)
