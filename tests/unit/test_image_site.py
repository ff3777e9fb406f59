"""Site settings, command line, partitions and the checks before a build."""

from __future__ import annotations

import dataclasses
import subprocess
import tomllib
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner

from sdbox.agent.cardclock import IDLE_MINUTES, SESSION_MINUTES
from sdbox.agent.config import ConfigError, load_site
from sdbox.image.checks import check_request
from sdbox.image.cli import image
from sdbox.image.cmdline import END, kernel_command_line
from sdbox.image.disk import partition_files
from sdbox.image.gpt import ENTRY, HEADER, read_partitions
from sdbox.image.manifest import locked_versions
from sdbox.image.request import BadRequestError, BuildRequest, ImageError, Producer, Profile, SiteSettings
from sdbox.image.site import card_roots, firewall_rules, parse_gateway, site_toml
from sdbox.image.verity import VerityRoot
from sdbox.smartcard.virtual.cvc import Holder, certify, generate_key

ROOT_HASH = "00112233445566778899aabbccddeeff" + "fedcba98765432100123456789abcdef"
SITE = SiteSettings(Path("centre-ca.crt"), endpoints=("203.0.113.10:443", "203.0.113.11:8443"))


def test_the_agent_reads_what_the_build_writes() -> None:
    table = tomllib.loads(site_toml(SITE))
    assert table["gateway"] == {
        "endpoints": ["203.0.113.10:443", "203.0.113.11:8443"],
        "name": "gateway.sdbox.test",
        "ca": "/usr/lib/sdbox/centre-ca.pem",
    }
    assert table["keys"] == {"switch": "KEY_PAUSE"}
    assert "card" not in table


def test_the_limits_of_a_cards_session_are_the_sites_to_set(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(site_toml(dataclasses.replace(SITE, idle_minutes=5, session_minutes=120)), encoding="utf-8")
    card = load_site(path).card
    assert (card.idle_minutes, card.session_minutes, card.token) == (5, 120, None)
    path.write_text(site_toml(SITE), encoding="utf-8")
    card = load_site(path).card
    assert (card.idle_minutes, card.session_minutes) == (IDLE_MINUTES, SESSION_MINUTES)
    path.write_text(site_toml(dataclasses.replace(SITE, idle_minutes=0)), encoding="utf-8")
    with pytest.raises(ConfigError, match="idle_minutes"):
        load_site(path)


@pytest.mark.parametrize(
    "endpoint",
    ["gateway.sdbox.test:443", "203.0.113.10", "203.0.113.10:0", "203.0.113.10:70000", "203.0.113.300:443", ""],
)
def test_an_endpoint_that_needs_a_name_server_or_is_malformed_is_refused(endpoint: str) -> None:
    with pytest.raises(BadRequestError):
        parse_gateway(endpoint)


@pytest.mark.parametrize(
    "site",
    [
        dataclasses.replace(SITE, gateway_name='x"\ny = 1'),
        dataclasses.replace(SITE, switch_key="PAUSE"),
        dataclasses.replace(SITE, endpoints=()),
    ],
)
def test_settings_can_not_smuggle_lines_into_the_file(site: SiteSettings) -> None:
    with pytest.raises(BadRequestError):
        site_toml(site)


def test_the_filter_drops_by_default_and_lets_out_what_the_site_names() -> None:
    rules = firewall_rules(SITE)
    assert rules.count("policy drop;") == 3
    assert "elements = { 203.0.113.10 . 443, 203.0.113.11 . 8443 }" in rules
    assert "set tunnel_endpoints" in rules


@pytest.mark.root
def test_nft_accepts_the_filter(tmp_path: Path) -> None:
    path = tmp_path / "firewall.nft"
    path.write_text(firewall_rules(SITE), encoding="utf-8")
    subprocess.run(["unshare", "--net", "nft", "--check", "-f", str(path)], check=True)


def test_the_command_line_ends_with_the_marker_and_names_the_root() -> None:
    words = kernel_command_line(ROOT_HASH, Profile.PRODUCTION, extra=("init=/x",)).split(" ")
    assert words[-1] == END
    assert words.count(END) == 1
    assert f"roothash={ROOT_HASH}" in words
    assert {"lockdown=confidentiality", "module.sig_enforce=1", "systemd.show_status=no", "init=/x"} <= set(words)


def test_partitions_carry_the_halves_of_the_root_hash() -> None:
    files = partition_files(Path("esp"), VerityRoot(Path("root"), Path("verity"), ROOT_HASH))
    assert "UUID=00112233-4455-6677-8899-aabbccddeeff" in files["20-root.conf"]
    assert "UUID=fedcba98-7654-3210-0123-456789abcdef" in files["30-verity.conf"]


def test_a_partition_table_is_read(tmp_path: Path) -> None:
    kind, identity = UUID(int=1 << 100), UUID(int=7)
    header = HEADER.pack(b"EFI PART", b"\0\0\1\0", 92, 0, 0, 1, 0, 0, 0, bytes(16), 2, 4, 128, 0)
    entry = ENTRY.pack(kind.bytes_le, identity.bytes_le, 2048, 4095, 0, bytes(72))
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512) + header.ljust(512, b"\0") + entry + bytes(3 * 128))
    (part,) = read_partitions(disk)
    assert (part.kind, part.identity, part.start, part.size) == (kind, identity, 1 << 20, 1 << 20)


def test_a_file_without_a_partition_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    with pytest.raises(ImageError, match="GPT"):
        read_partitions(tmp_path / "disk")


def test_a_reader_less_card_is_for_debug_images_only(tmp_path: Path) -> None:
    site = dataclasses.replace(SITE, card_token="softhsm")
    check_request(BuildRequest(output=tmp_path, profile=Profile.DEBUG, site=site))
    with pytest.raises(BadRequestError, match="debug"):
        check_request(BuildRequest(output=tmp_path, site=site))


def test_the_other_producer_is_refused_as_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="buildroot"):
        check_request(BuildRequest(output=tmp_path, producer=Producer.BUILDROOT))


def test_buildroot_on_the_command_line_ends_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDBOX_STATE", str(tmp_path / "state"))
    done = CliRunner().invoke(image, ["build", "--producer", "buildroot", "--output", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "not there yet" in done.stderr


def test_locked_versions_are_listed() -> None:
    lock = "# by uv\ncffi==2.1.1 \\\n    --hash=sha256:00\npyopenssl==26.4.0 \\\n"
    assert locked_versions(lock) == {"cffi": "2.1.1", "pyopenssl": "26.4.0"}


def test_card_roots_go_where_openpace_looks(tmp_path: Path) -> None:
    root = Holder.root(generate_key())
    path = tmp_path / "root"
    path.write_bytes(certify(root, root))
    site = dataclasses.replace(SITE, card_roots=(path,))
    assert card_roots(site) == {"etc/eac/cvc/XXSDBOXCVCA00001": path.read_bytes()}


@pytest.mark.parametrize("reference", ["", "../../../evil00001", "XX/SDBOX00001", "xxsdbox00001"])
def test_a_card_root_can_not_choose_another_place(tmp_path: Path, reference: str) -> None:
    root = Holder(reference, generate_key(), 0xC0)
    path = tmp_path / "root"
    path.write_bytes(certify(root, root))
    with pytest.raises(BadRequestError, match="card root"):
        card_roots(dataclasses.replace(SITE, card_roots=(path,)))


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----", bytes.fromhex("7F2100"), b"\x7f\x21\x05"])
def test_a_card_root_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "root"
    path.write_bytes(content)
    with pytest.raises(BadRequestError, match="card root"):
        card_roots(dataclasses.replace(SITE, card_roots=(path,)))
