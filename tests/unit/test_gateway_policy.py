"""The gateway's small rules: limits, configuration, the record's chain, one-time logins."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from sqlalchemy import create_engine, text

from sdbox.attestation.codes import CODES, failure
from sdbox.attestation.verdict import Verdict
from sdbox.boot.microcode import Microcode
from sdbox.gateway.config import ConfigError, Limits, load_config
from sdbox.gateway.desktop import Logins, nt_hash
from sdbox.gateway.ear import key_id
from sdbox.gateway.freshness import FRESH_SECONDS, Freshness
from sdbox.gateway.limits import RateLimit, network_of
from sdbox.gateway.record import sanitised
from sdbox.gateway.store import RevocationKind, Store, StoreError
from sdbox.gateway.verifier import describe
from sdbox.protocol.values import BoxId

BOX = BoxId.parse("00000000-0000-4000-8000-000000000001")
CONFIG = """
listen = "203.0.113.10:443"
certificate = "gateway.crt"
key = "gateway.key"
card_ca = "card-ca.crt"
ear_key = "ear.key"
references = ["reference.json"]
database = "sqlite:////var/lib/sdbox/gateway.sqlite"
"""
BUBBLE = """
[[bubble]]
project = "atlas"
title_fr = "Atlas des territoires"
title_en = "Territory atlas"
network = "10.64.1.0/24"
gateway_address = "10.64.1.1"
[bubble.wireguard]
socket = "wg1.sock"
listen_port = 51821
endpoints = ["203.0.113.10:51821"]
[bubble.desktop]
host = "10.64.1.1"
certificate_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
sam_file = "atlas.sam"
"""


def test_a_burst_then_a_rate() -> None:
    now = 0.0
    limit = RateLimit(2, 60, clock=lambda: now)
    assert [limit.take("a") for _ in range(3)] == [True, True, False]
    assert limit.take("b")
    now = 1.0
    assert [limit.take("a") for _ in range(2)] == [True, False]


def test_a_proof_of_the_card_is_fresh_once_and_not_for_long() -> None:
    now = 0.0
    freshness = Freshness(clock=lambda: now)
    assert not freshness.spend()
    for age, fresh in ((0.0, True), (FRESH_SECONDS, True), (FRESH_SECONDS + 1, False)):
        freshness.given()
        now += age
        assert [freshness.spend(), freshness.spend()] == [fresh, False]


def test_the_limit_remembers_a_bounded_number_of_keys() -> None:
    limit = RateLimit(1, 1, clock=lambda: 0.0)
    for number in range(100_000):
        assert limit.take(str(number))
    assert len(limit._buckets) == 1 << 16


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.10", "203.0.113.10"),
        ("::ffff:203.0.113.10", "203.0.113.10"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::"),
        ("2001:db8:0:1:ffff::1", "2001:db8:0:1::"),
        ("2001:db8:0:2::1", "2001:db8:0:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_an_address_stands_for_what_one_holder_has(address: str, network: str) -> None:
    assert network_of(address) == network


SITE = 1000  # boxes behind one address
STORM = 556  # boxes a second, if a million start within half an hour (docs/bench.md)
PROVING_SECONDS = 7  # from the connection to the evidence, with a slow TPM


def test_the_limits_let_a_site_start_at_once_and_a_fleet_in_half_an_hour() -> None:
    limits = Limits()
    site = RateLimit(limits.address_burst, limits.address_per_minute, clock=lambda: 0.0)
    assert all(site.take("203.0.113.10") for _ in range(SITE))
    assert not site.take("203.0.113.10")
    assert limits.unproven_connections >= STORM * PROVING_SECONDS


def test_a_configuration_is_read_with_paths_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG + BUBBLE)
    config = load_config(path)
    assert config.certificate == tmp_path / "gateway.crt"
    assert config.bubble[0].wireguard.socket == tmp_path / "wg1.sock"
    assert (config.lease_seconds, config.result_seconds) == (15, 300)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "listen = 1",
        CONFIG + "unknown = 1",
        CONFIG + "result_seconds = 300.1",
        CONFIG.replace(":443", ""),
        CONFIG + BUBBLE + BUBBLE,
        CONFIG + BUBBLE + BUBBLE.replace("atlas", "boreal"),
        CONFIG + BUBBLE.replace("10.64.1.1", "10.64.2.1", 1),
        CONFIG + BUBBLE.replace('"atlas"', '"At las"'),
        CONFIG + BUBBLE.replace("51821\n", "0\n"),
        CONFIG + BUBBLE.replace("10.64.1.0/24", "10.64.1.5/24"),
    ],
)
def test_a_wrong_configuration_says_so_in_one_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(content)
    with pytest.raises(ConfigError):
        load_config(path)


def test_the_record_is_chained_and_a_change_is_noticed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'record.sqlite'}"
    store = Store(url)
    for number in range(3):
        store.append({"event": f"event {number}"})
    assert [line.number for line in store.record()] == [1, 2, 3]
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE record SET body = replace(body, 'event 1', 'event x') WHERE number = 2"))
    with pytest.raises(StoreError, match="line 2"):
        list(store.record())
    engine.dispose()
    store.close()


def test_a_removed_line_is_noticed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'record.sqlite'}"
    store = Store(url)
    for number in range(3):
        store.append({"event": f"event {number}"})
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM record WHERE number = 2"))
    with pytest.raises(StoreError, match="line 2"):
        list(store.record())
    engine.dispose()
    store.close()


def test_the_inventory(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    assert store.ek_public(BOX) is None
    store.enrol(BOX, "one")
    store.enrol(BOX, "one")
    with pytest.raises(StoreError, match="another EK"):
        store.enrol(BOX, "two")
    assert store.ek_public(BOX) == "one"
    store.revoke(RevocationKind.BOX, str(BOX))
    assert store.is_revoked(RevocationKind.BOX, str(BOX))
    assert not store.is_revoked(RevocationKind.SESSION, str(BOX))
    assert (store.forget(BOX), store.forget(BOX)) == (True, False)
    store.close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all.sqlite"])
def test_a_database_that_cannot_be_used_is_an_error(url: str) -> None:
    with pytest.raises(StoreError):
        Store(url)


def test_log_text_cannot_forge_lines() -> None:
    assert sanitised('a\nb\x1b[31m"é') == 'a?b?[31m"?'
    assert len(sanitised("x" * 5000)) == 2000


def test_the_record_has_every_failed_check_once_whatever_a_box_sends() -> None:
    every = Verdict(tuple(failure(code, "x") for code in CODES for _ in range(3)), microcode=Microcode(0x306A9, 0x21))
    kept = sanitised(describe(every))
    assert kept.split() == [*(f"{code.row}:{name}" for name, code in CODES.items()), "(000306a9:0x21)"]


def test_the_nt_hash_is_the_known_one() -> None:
    """[MS-NLMP] 4.2.2.1.2: NTOWFv1 of "Password"."""
    assert nt_hash("Password") == "a4f49c406510bdcab6824ee7c30fd852"


def test_logins_come_and_go_and_do_not_outlive_the_process(tmp_path: Path) -> None:
    sam = tmp_path / "sam"
    sam.write_text("old:::0:::\n")
    logins = Logins(sam)
    one, two = logins.add(), logins.add()
    assert one.secret not in repr(one)
    assert sam.read_text().splitlines()[1:] == [f"{login.user}:::{nt_hash(login.secret)}:::" for login in (one, two)]
    logins.remove(one.user)
    logins.remove("nobody")
    assert sam.read_text().splitlines()[1:] == [f"{two.user}:::{nt_hash(two.secret)}:::"]
    assert sam.stat().st_mode & 0o777 == 0o600


def test_a_key_s_name_is_its_thumbprint() -> None:
    """RFC 7638, of the P-256 key in RFC 7517, appendix A.1."""
    x = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"
    y = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
    key = ECAlgorithm.from_jwk({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    assert isinstance(key, ec.EllipticCurvePublicKey)
    text = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    assert base64.urlsafe_b64decode(key_id(key) + "=") == hashlib.sha256(text.encode()).digest()
