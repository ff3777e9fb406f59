"""The bundle of vendors' roots: files and list agree, each says where it is from, an update shows what it changes."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sdbox.attestation.endorsement import EK_USAGE
from sdbox.attestation.roots import Bundle, BundleError, digest_of
from sdbox.attestation.roots_cli import roots
from sdbox.attestation.vendorcert import pem_of
from tests.unit.test_attestation_endorsement import EK, MIDDLE_KEY, NOW, ROOT_KEY, Wanted, vendor

ROOT = vendor(Wanted("root", ROOT_KEY, "root", ROOT_KEY).make())
MIDDLE = vendor(Wanted("middle", MIDDLE_KEY, "root", ROOT_KEY).make())
LATER = vendor(Wanted("later", EK, "later", EK, start=dt.datetime(2030, 1, 1, tzinfo=dt.UTC)).make())
LEAF = vendor(Wanted("", EK, "middle", MIDDLE_KEY, ca=False, usage=EK_USAGE).make())
SOURCE = "https://vendor.example/roots.cab"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As a vendor publishes: folders, DER and PEM, and a text that is no certificate."""
    folder = tmp_path / "tree"
    (folder / "Vendor" / "RootCA").mkdir(parents=True)
    (folder / "Vendor" / "RootCA" / "Root.CER").write_bytes(ROOT.der)
    (folder / "Vendor" / "middle.pem").write_text(pem_of(MIDDLE))
    (folder / "version.txt").write_text("1")
    return folder


@pytest.fixture
def bundle(tmp_path: Path, tree: Path) -> Path:
    assert run("add", tmp_path / "bundle", tree, "--source", SOURCE, "--date", "2026-03-04").exit_code == 0
    return tmp_path / "bundle"


def run(*argv: object) -> Result:
    return CliRunner().invoke(roots, [str(word) for word in argv])


def test_each_certificate_has_its_provenance(bundle: Path) -> None:
    made = {entry.sha256: entry for entry in Bundle(bundle).entries}
    root = made[hashlib.sha256(ROOT.der).hexdigest()]
    assert (root.kind, root.source, root.date, root.subject) == ("root", SOURCE, "2026-03-04", "CN=root")
    anchors = Bundle(bundle).anchors()
    assert (list(anchors.roots), list(anchors.intermediates)) == ([ROOT], [MIDDLE])
    assert list(Bundle(bundle).problems(NOW)) == []


def test_an_update_shows_what_is_new_and_what_is_gone(bundle: Path, tree: Path) -> None:
    (tree / "Vendor" / "middle.pem").unlink()
    (tree / "later.der").write_bytes(LATER.der)
    result = run("add", bundle, tree, "--source", SOURCE)
    assert result.output.splitlines()[:2] == [
        f"+ {digest_of(LATER)} root CN=later",
        f"? {digest_of(MIDDLE)} intermediate CN=middle",
    ]
    assert len(Bundle(bundle).entries) == 3
    assert "not valid now" in run("check", bundle).output
    assert run("drop", bundle, digest_of(MIDDLE)).exit_code == 0
    assert digest_of(MIDDLE) not in {entry.sha256 for entry in Bundle(bundle).entries}
    assert run("drop", bundle, digest_of(MIDDLE)).exit_code == 2


def test_only_what_is_expected_is_taken(tmp_path: Path, tree: Path) -> None:
    options = ("--source", SOURCE, "--expect", digest_of(ROOT))
    result = run("add", tmp_path / "bundle", tree, *options)
    assert (result.exit_code, digest_of(MIDDLE) in result.output) == (2, True)
    assert not (tmp_path / "bundle").exists()
    assert run("add", tmp_path / "bundle", tree, *options, "--expect", digest_of(MIDDLE)).exit_code == 0


@pytest.mark.parametrize(("name", "data"), [("leaf.pem", pem_of(LEAF).encode()), ("x.cer", b"nothing")])
def test_what_is_no_ca_s_certificate_is_not_added_nor_anything_beside_it(
    tmp_path: Path, tree: Path, name: str, data: bytes
) -> None:
    (tree / name).write_bytes(data)
    assert run("add", tmp_path / "bundle", tree, "--source", SOURCE).exit_code == 2
    assert not (tmp_path / "bundle").exists()


def test_a_file_that_the_list_does_not_name_is_trusted_by_nobody(bundle: Path) -> None:
    (bundle / f"{digest_of(LATER)}.pem").write_text(pem_of(LATER))
    with pytest.raises(BundleError, match="differ"):
        Bundle(bundle)
    assert run("check", bundle).exit_code == 2


def test_a_changed_file_is_noticed(bundle: Path) -> None:
    (bundle / f"{digest_of(ROOT)}.pem").write_text(pem_of(LATER))
    with pytest.raises(BundleError, match=r"not what roots.json says"):
        Bundle(bundle)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"sha256": "x"}]'])
def test_a_malformed_list_is_an_error(bundle: Path, text: str) -> None:
    (bundle / "roots.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle(bundle)


def test_a_bundle_without_a_root_is_no_anchor(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no root"):
        Bundle(tmp_path / "none").anchors()


def test_an_intermediate_without_its_root_is_a_doubt(bundle: Path, tree: Path) -> None:
    (tree / "later.der").write_bytes(LATER.der)
    run("add", bundle, tree, "--source", SOURCE)
    run("drop", bundle, digest_of(ROOT))
    assert any("no way to a root" in line for line in Bundle(bundle).problems(NOW))
