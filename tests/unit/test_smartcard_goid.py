"""The GoID card: no finger and no signature but through the channel, and anything odd ends channel and login."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbox.smartcard.variants import variants_for
from sdbox.smartcard.virtual.apdu import parse_command
from sdbox.smartcard.virtual.cvc import DEVICE, Holder, certify, device_chain, generate_key, holder_reference, point
from sdbox.smartcard.virtual.emulator import CardPlan, make_card
from sdbox.smartcard.virtual.faults import Fault
from sdbox.smartcard.virtual.personalise import Issuer, Project
from sdbox.smartcard.virtual.schsm import AID
from sdbox.smartcard.virtual.secure_channel import CA_ECDH_AES_128, ChannelError, SecureChannel, pad
from sdbox.smartcard.virtual.tlv import parse_tlvs, tlv

ISSUER = Issuer.create()
SELECT = bytes.fromhex(f"00A404000B{AID.hex()}00")
CHOOSE = bytes.fromhex(f"002241A40C800A{CA_ECDH_AES_128.hex()}")
COUNTER, FINGER = bytes.fromhex("00200081"), bytes.fromhex("8020008100")
SIGN = bytes.fromhex("80680170000020" + 32 * "5A" + "0000")


class Terminal(SecureChannel):
    """The other end of the channel: same keys, the reverse order of protecting and opening."""

    def protect(self, apdu: bytes) -> bytes:
        command = parse_command(apdu)
        self._sequence += 1
        head = bytes((command.cla | 0x0C, command.ins, command.p1, command.p2))
        objects = b""
        if command.data:
            padded = self._encrypt(command.data)
            objects += tlv(0x85, padded) if command.ins & 1 else tlv(0x87, b"\x01", padded)
        if command.length is not None:
            objects += tlv(0x97, (command.length & 0xFFFF).to_bytes(2, "big"))
        mac = self._sealed(pad(head) + pad(objects) if objects else pad(head))
        body = objects + tlv(0x8E, mac)
        return head + b"\x00" + len(body).to_bytes(2, "big") + body + b"\x00\x00"

    def read(self, answer: bytes) -> bytes:
        self._sequence += 1
        objects = dict(parse_tlvs(answer[:-2]))
        covered = answer[:-2][: -len(tlv(0x8E, objects[0x8E]))]
        assert self._sealed(pad(covered)) == objects[0x8E]
        cryptogram = objects.get(0x85) or objects.get(0x87, b"")[1:]
        return (self._decrypt(cryptogram) if cryptogram else b"") + objects[0x99]


class Held:
    """A card out of its reader, and who talks to it."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.reports: list[str] = []
        projects = (Project("atlas"), Project("boreal"))
        plan = CardPlan("goid", projects, ISSUER, touch_seconds=0.0, fault=fault)
        self.card, self.sensor = make_card(plan, self.reports.append)
        assert self.ask(SELECT) == 0x9000
        self.terminal: Terminal | None = None

    def ask(self, command: bytes) -> int:
        return int.from_bytes(self.card.process(command)[-2:], "big")

    def device_point(self) -> bytes:
        assert self.ask(bytes.fromhex("00A4000C022F02")) == 0x9000
        chain = self.card.process(bytes.fromhex("00B1000000000454020000 0400"))[:-2]
        device = dict(parse_tlvs(dict(parse_tlvs(next(parse_tlvs(chain))[1]))[0x7F4E]))
        return dict(parse_tlvs(device[0x7F49]))[0x86]

    def open_channel(self) -> None:
        key = generate_key()
        device = ec.EllipticCurvePublicKey.from_encoded_point(ec.BrainpoolP256R1(), self.device_point())
        ours = point(key.public_key())
        assert self.ask(CHOOSE) == 0x9000
        body = tlv(0x7C, tlv(0x80, ours))
        answer = self.card.process(bytes.fromhex("00860000") + bytes([len(body)]) + body + b"\x00")
        fields = dict(parse_tlvs(dict(parse_tlvs(answer[:-2]))[0x7C]))
        secret = key.exchange(ec.ECDH(), device)
        seed = secret + fields[0x81]
        keys = [hashlib.new("sha1", seed + bytes((0, 0, 0, n))).digest()[:16] for n in (1, 2)]  # noqa: S324
        self.terminal = Terminal(*keys)
        assert self.terminal.checksum(tlv(0x7F49, tlv(0x06, CA_ECDH_AES_128), tlv(0x86, ours))) == fields[0x82]

    def through(self, apdu: bytes) -> bytes:
        assert self.terminal is not None
        return self.terminal.read(self.card.process(self.terminal.protect(apdu)))

    def login(self, finger: str = "good") -> int:
        self.sensor.rest(finger)
        return int.from_bytes(self.through(FINGER)[-2:], "big")


def test_its_atr_is_known() -> None:
    assert [variant.name for variant in variants_for(Held().card.atr)] == ["goid"]


def test_a_finger_through_the_channel_lets_it_sign() -> None:
    held = Held()
    held.open_channel()
    assert held.through(bytes.fromhex("0020008100")) == b"\x63\xc3"
    assert held.login() == 0x9000
    signature = held.through(SIGN)
    assert signature[-2:] == b"\x90\x00"
    assert utils.decode_dss_signature(signature[:-2])
    assert held.reports == ["channel", "sensor wait", "sensor match", "verify tries=3", "sign"]


def test_nothing_but_the_counter_without_the_channel() -> None:
    held = Held()
    held.sensor.rest("good")
    assert held.ask(FINGER) == 0x6982
    assert held.ask(bytes.fromhex("0020008106313233343536")) == 0x6982
    assert held.ask(COUNTER) == held.ask(COUNTER + b"\x00") == 0x63C3
    assert held.ask(SIGN) == 0x6982
    assert held.ask(bytes.fromhex("8C2000810A8E080000000000000000")) == 0x6987
    assert held.reports == []


def test_a_command_in_the_clear_ends_channel_and_login() -> None:
    held = Held()
    held.open_channel()
    assert held.login() == 0x9000
    assert held.ask(SIGN) == 0x6982
    assert held.terminal is not None
    assert held.ask(held.terminal.protect(SIGN)) == 0x6987
    assert held.ask(COUNTER) == 0x63C3
    assert "sign" not in held.reports


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_bit_ends_channel_and_login(data: st.DataObject) -> None:
    held = Held()
    held.open_channel()
    assert held.login() == 0x9000
    assert held.terminal is not None
    protected = bytearray(held.terminal.protect(SIGN))
    bit = data.draw(st.integers(0, 8 * (len(protected) - 2) - 1))
    protected[bit // 8] ^= 1 << bit % 8
    assert held.ask(bytes(protected)) in (0x6700, 0x6988, 0x6982, 0x6D00, 0x6E00)
    assert held.ask(COUNTER) == 0x63C3
    assert "sign" not in held.reports


def test_a_command_counts_once() -> None:
    held = Held()
    held.open_channel()
    assert held.terminal is not None
    protected = held.terminal.protect(COUNTER + b"\x00")
    assert held.ask(protected) == 0x63C3
    assert held.ask(protected) == 0x6988


def test_a_reset_ends_channel_and_login() -> None:
    held = Held()
    held.open_channel()
    assert held.login() == 0x9000
    held.card.power()
    assert held.terminal is not None
    assert held.ask(held.terminal.protect(SIGN)) == 0x6987
    held.ask(SELECT)
    assert held.ask(COUNTER) == 0x63C3


@given(st.lists(st.sampled_from(["good", "wrong", "power"]), max_size=6))
@settings(max_examples=25, deadline=None)
def test_the_counter_follows_the_rules(actions: list[str]) -> None:
    held, tries = Held(), 3
    for action in actions:
        held.card.power()
        held.ask(SELECT)
        if action != "power":
            held.open_channel()
            tries = 0 if not tries else 3 if action == "good" else tries - 1
            right = tries and action == "good"
            assert held.login(action) == (0x9000 if right else 0x63C0 | tries if tries else 0x6983)
        held.card.power()
        held.ask(SELECT)
        assert held.ask(COUNTER) == (0x63C0 | tries if tries else 0x6983)


def test_a_blocked_card_reads_no_finger() -> None:
    held = Held(Fault.BLOCKED)
    held.open_channel()
    assert held.login() == 0x6983
    assert held.reports == ["channel"]


def test_chip_authentication_wants_its_order_and_a_point_of_the_curve() -> None:
    held = Held()
    on_p256 = point(ec.generate_private_key(ec.SECP256R1()).public_key())
    ask = bytes.fromhex("0086000045") + tlv(0x7C, tlv(0x80, on_p256)) + b"\x00"
    assert held.ask(ask) == 0x6985, "no algorithm chosen"
    assert held.ask(CHOOSE) == 0x9000
    assert held.ask(ask) == 0x6A80
    assert held.ask(ask) == 0x6985, "chosen for one attempt"
    assert held.ask(CHOOSE.replace(CA_ECDH_AES_128, CA_ECDH_AES_128[:-1] + b"\x04")) == 0x6A80
    assert held.ask(bytes.fromhex("002241A40180")) == 0x6A80


@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_command_upsets_it(commands: list[bytes], inside: bool) -> None:  # noqa: FBT001 - drawn
    held = Held()
    for command in commands:
        if inside and len(command) > 3:
            held.open_channel()
            assert held.terminal is not None
            head, body = bytes([0x80, *command[1:4]]), command[4:]
            apdu = (
                head + b"\x00" + len(body).to_bytes(2, "big") + body + b"\x00\x00" if body else head + b"\x00\x00\x00"
            )
            assert len(held.card.process(held.terminal.protect(apdu))) >= 2
        else:
            assert len(held.card.process(command)) >= 2


@given(st.binary(max_size=60))
def test_a_channel_opens_nothing_that_is_not_sealed(body: bytes) -> None:
    channel = SecureChannel(bytes(16), bytes(16))
    with pytest.raises(ChannelError):
        channel.open(parse_command(bytes((0x0C, 0x20, 0, 0x81, len(body))) + body if body else b"\x0c\x20\x00\x81"))


def test_a_chain_is_signed_by_its_root() -> None:
    root = Holder.root(generate_key())
    chain = list(parse_tlvs(device_chain(root, Holder("SDB1234567800001", generate_key(), DEVICE))))
    assert [holder_reference(tlv(tag, value)) for tag, value in chain] == ["SDB1234567800001", "XXSDBOXDICA00001"]
    issuer = dict(parse_tlvs(chain[1][1]))
    assert _is_signed(issuer, root)
    assert not _is_signed(issuer, Holder.root(generate_key()))
    assert holder_reference(certify(root, root)) == "XXSDBOXCVCA00001"


def _is_signed(certificate: dict[int, bytes], authority: Holder) -> bool:
    signature = certificate[0x5F37]
    der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        authority.key.public_key().verify(der, tlv(0x7F4E, certificate[0x7F4E]), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
