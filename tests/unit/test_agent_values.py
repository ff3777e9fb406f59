"""The agent's pure parts: settings, tunnel key and peer, card steps, view, key filter, client arguments."""

from __future__ import annotations

import pickle
import struct
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyroute2.netlink.generic.wireguard import wgmsg

from sdbox.agent import switchkey
from sdbox.agent.card import first_step, refused_step
from sdbox.agent.config import ConfigError, image_version, load_site, read_box_id
from sdbox.agent.desktop import client_arguments
from sdbox.agent.events import (
    CardRefused,
    FingerAwaited,
    FingerRefused,
    LastFinger,
    LastPin,
    PinAwaited,
    PinRefused,
)
from sdbox.agent.firewall import allow_endpoints
from sdbox.agent.keys import TunnelKey
from sdbox.agent.machine import State
from sdbox.agent.netlink import attribute, attributes, nested
from sdbox.agent.view import Memory, view_of
from sdbox.agent.wireguard import peer
from sdbox.protocol.reasons import Reason
from sdbox.protocol.values import DesktopAccess, Offer, TunnelGrant
from sdbox.smartcard.values import LoginMethod, LoginRefused, LoginStatus

SITE = '[gateway]\nendpoints = ["203.0.113.10:443"]\nname = "gateway.sdbox.test"\nca = "/usr/lib/sdbox/centre-ca.pem"\n'
GRANT = TunnelGrant(("203.0.113.10:51821",), b"\1" * 32, b"\2" * 32, "10.64.1.2/32", ("10.64.1.0/24",))


def test_site_is_read(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    site = load_site(path)
    assert (site.gateway.endpoints, site.keys.switch, site.card.token) == (("203.0.113.10:443",), "KEY_PAUSE", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[gateway]\nendpoints = []\nname = 'n'\nca = 'c'\n",
        SITE + "extra = 1\n",
        SITE + "[keys]\nswitch = 'KEY_A'\n",
    ],
)
def test_wrong_site_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"site\.toml"):
        load_site(path)


def test_box_id_and_version(tmp_path: Path) -> None:
    uuid, release = tmp_path / "product_uuid", tmp_path / "os-release"
    uuid.write_text("7A1B3C5D-0000-4000-8000-0123456789AB\n")
    release.write_text('ID=sdbox\nIMAGE_VERSION="1.2"\n')
    assert str(read_box_id(uuid)) == "7a1b3c5d-0000-4000-8000-0123456789ab"
    assert image_version(release) == "1.2"
    uuid.write_text("not one\n")
    with pytest.raises(ConfigError):
        read_box_id(uuid)


def test_tunnel_key_is_a_pair_and_can_be_wiped() -> None:
    key = TunnelKey()
    public = X25519PrivateKey.from_private_bytes(bytes(key.private())).public_key().public_bytes_raw()
    assert public == key.public
    assert TunnelKey().public != key.public
    buffer = key.private()
    key.wipe()
    assert bytes(buffer) == bytes(32)
    with pytest.raises(ValueError, match="wiped"):
        key.private()
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_the_peer_is_what_the_kernel_gets() -> None:
    """Read back by pyroute2: linux/wireguard.h, linux/genetlink.h."""
    body = struct.pack("=BBH", 1, 1, 0) + nested(8, peer(GRANT, GRANT.endpoints[0]))
    decoded = wgmsg(struct.pack("=IHHII", 16 + len(body), 0x1C, 5, 1, 0) + body)
    decoded.decode()
    (told,) = decoded.get_attr("WGDEVICE_A_PEERS")
    assert b64decode(told.get_attr("WGPEER_A_PUBLIC_KEY")) == GRANT.peer_public
    assert b64decode(told.get_attr("WGPEER_A_PRESHARED_KEY")) == GRANT.preshared
    assert told.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == 1
    endpoint = told.get_attr("WGPEER_A_ENDPOINT")
    assert (endpoint["addr"], endpoint["port"]) == ("203.0.113.10", 51821)
    assert [ip["addr"] for ip in told.get_attr("WGPEER_A_ALLOWEDIPS")] == ["10.64.1.0/24"]


def test_attributes_are_padded_and_come_back() -> None:
    data = attribute(3, b"ab") + nested(5, attribute(1, b""), attribute(2, b"abcd"))
    assert len(data) % 4 == 0
    (first, second) = attributes(data)
    assert first == (3, b"ab")
    assert list(attributes(second[1])) == [(1, b""), (2, b"abcd")]
    assert list(attributes(b"\1\0\0\0")) == []  # a length shorter than its own header


def test_endpoints_are_addresses_of_the_set() -> None:
    assert allow_endpoints(GRANT.endpoints) == ("add element inet sdbox tunnel_endpoints { 203.0.113.10 . 51821 }\n")


@pytest.mark.parametrize(
    ("status", "step"),
    [
        (LoginStatus(LoginMethod.FINGER, 3, final_try=False, blocked=False), FingerAwaited(3)),
        (LoginStatus(LoginMethod.FINGER, 1, final_try=True, blocked=False), LastFinger(1)),
        (LoginStatus(LoginMethod.PIN, None, final_try=False, blocked=False), PinAwaited(None)),
        (LoginStatus(LoginMethod.PIN, 1, final_try=True, blocked=False), LastPin(1)),
        (LoginStatus(LoginMethod.FINGER, 0, final_try=False, blocked=True), CardRefused(Reason.CARD_BLOCKED)),
    ],
)
def test_an_inserted_card_never_spends_its_last_try_by_itself(status: LoginStatus, step: object) -> None:
    assert first_step(status) == step


def test_refused_logins() -> None:
    assert refused_step(LoginMethod.FINGER, LoginRefused(Reason.CARD_TIMEOUT, 3)) == FingerRefused(
        Reason.CARD_TIMEOUT, 3
    )
    assert refused_step(LoginMethod.PIN, LoginRefused(Reason.CARD_PIN, 2)) == PinRefused(Reason.CARD_PIN, 2)
    assert refused_step(LoginMethod.PIN, LoginRefused(Reason.CARD_BLOCKED, 0)) == CardRefused(Reason.CARD_BLOCKED)
    wrong, unknown = LoginRefused(Reason.CARD_FINGER, 1), LoginRefused(Reason.CARD_PIN, None, final_try=True)
    assert refused_step(LoginMethod.FINGER, wrong) == LastFinger(1, Reason.CARD_FINGER)
    assert refused_step(LoginMethod.PIN, unknown) == LastPin(None, Reason.CARD_PIN)


def test_the_view_forgets_with_the_card() -> None:
    memory = Memory(Reason.CARD_FINGER, 2, (Offer("atlas", "a", "a", None, b""),), "atlas")
    assert view_of(State.REFUSED_FINGER, memory).reason == "card-finger"
    assert view_of(State.SESSION, memory).current == "atlas"
    idle = view_of(State.INSERT_CARD, memory)
    assert (idle.reason, idle.tries, idle.projects, idle.current) == ("", -1, (), "")
    assert view_of(State.FAILED, Memory()).reason == "internal"


def test_the_key_filter_lets_one_key_through() -> None:
    """linux/input.h; the kernel filters by these masks (drivers/input/evdev.c, evdev_set_mask)."""
    assert switchkey.EVIOCSMASK == 0x40104593
    (keys, types) = switchkey.mask_requests(119)
    assert keys == (1, sum(1 << code for code in (119, *switchkey.SILENT_KEYS)).to_bytes(96, "little"))
    assert types == (0, b"\3" + bytes(7))


def test_no_key_of_a_text_or_a_pin_reaches_the_agent() -> None:
    """linux/input-event-codes.h: top row 2-13, letters 16-27, 30-41, 43-53, 86, space 57, keypad 55, 71-83, 98, 121."""
    written = {*range(2, 14), *range(16, 28), *range(30, 42), *range(43, 54), 55, 57, *range(71, 84), 86, 98, 121}
    let_through = {
        code for kind, mask in (*switchkey.mask_requests(119), *switchkey.pointer_masks()) if kind == 1
        for code in range(768) if int.from_bytes(mask, "little") >> code & 1
    }  # fmt: skip
    assert not written & let_through


def test_presses_are_counted_once() -> None:
    event = struct.Struct("llHHi")
    rows = [(1, 119, 1), (0, 0, 0), (1, 119, 2), (1, 119, 0), (1, 30, 1), (1, 119, 1)]
    data = b"".join(event.pack(0, 0, *row) for row in rows)
    assert switchkey.presses(data + b"half", 119) == 2


def test_the_client_gets_nothing_but_keys_and_pointer() -> None:
    access = DesktopAccess("10.64.1.1", 3389, "ab" * 32, "u", "topsecret")
    arguments = client_arguments(access)
    assert f"/cert:deny,fingerprint:sha256:{'ab' * 32}" in arguments
    assert {"-clipboard", "/sec:nla", "/f"} <= set(arguments)
    channels = ("/drive", "/printer", "/smartcard", "/usb", "/microphone", "+clipboard", "/serial", "/parallel")
    assert not [text for text in arguments if text.startswith(channels)]
    assert "topsecret" not in repr(access)
