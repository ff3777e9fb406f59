"""Root tree: what is taken out stays inside the tree, what is put in is where the box looks for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdbox.image import trim
from sdbox.image.basetree import _archive_hashes, _stanzas
from sdbox.image.fingerprint import fingerprint
from sdbox.image.python_files import entry_points
from sdbox.image.request import BuildRequest, ImageError, Profile, SiteSettings
from sdbox.image.roottree import check_users, component_files, lock_passwords, os_release
from sdbox.image.source import read_words


def _write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_removal_does_not_follow_links_out_of_the_tree(tmp_path: Path) -> None:
    outside = _write(tmp_path / "outside/precious")
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/link").symlink_to(outside.parent)
    trim.remove_paths(tree, ["etc/link", "etc/nothing"])
    assert outside.exists()
    assert not (tree / "etc/link").is_symlink()


def test_programs_are_kept_by_name_only(tmp_path: Path) -> None:
    for name in ("usr/bin/bash", "usr/bin/sdbox-agent", "usr/sbin/nft", "usr/sbin/agetty", "usr/bin/python3"):
        _write(tmp_path / name)
    trim.keep_programs(tmp_path, ["sdbox-*", "nft", "python3"])
    kept = sorted(path.name for folder in trim.PROGRAM_FOLDERS for path in (tmp_path / folder).iterdir())
    assert kept == ["nft", "python3", "sdbox-agent"]


def test_links_that_start_units_are_kept_by_name_only(tmp_path: Path) -> None:
    units = tmp_path / "usr/lib/systemd/system"
    for name in ("sysinit.target.wants/systemd-udevd.service", "getty.target.wants/getty-static.service"):
        _write(units / name)
    _write(units / "pcscd.service.d/sdbox.conf")
    trim.keep_unit_links(tmp_path, ["sysinit.target.wants/systemd-udevd.service"])
    assert (units / "sysinit.target.wants/systemd-udevd.service").exists()
    assert not (units / "getty.target.wants/getty-static.service").exists()
    assert (units / "pcscd.service.d/sdbox.conf").exists()


def test_no_file_keeps_a_set_id_bit(tmp_path: Path) -> None:
    program = _write(tmp_path / "usr/bin/su")
    program.chmod(0o4755)
    trim.drop_set_id(tmp_path)
    assert program.stat().st_mode & 0o7777 == 0o755


def test_nobody_has_a_password(tmp_path: Path) -> None:
    shadow = _write(tmp_path / "etc/shadow", "root:$y$j9T$x:20000:0:99999:7:::\nsdbox-card:!:20500::::::\n")
    lock_passwords(tmp_path)
    assert shadow.read_text(encoding="utf-8").splitlines() == [
        "root:!*:20454:0:99999:7:::",
        "sdbox-card:!*:20454::::::",
    ]


def test_a_declared_user_that_was_not_made_stops_the_build(tmp_path: Path) -> None:
    _write(tmp_path / "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    _write(tmp_path / "usr/lib/sysusers.d/sdbox.conf", 'u sdbox-card - "bad: gecos" /\n')
    with pytest.raises(ImageError, match="sdbox-card"):
        check_users(tmp_path)


def test_component_files_go_where_systemd_and_dbus_look(tmp_path: Path) -> None:
    for name in (
        "units/a.service",
        "units/x.d/y.conf",
        "units/README.md",
        "dbus/b.conf",
        "sysusers/c.conf",
        "udev/d.rules",
    ):
        _write(tmp_path / name)
    assert [place for _, place in component_files(tmp_path)] == [
        "usr/lib/systemd/system/a.service",
        "usr/lib/systemd/system/x.d/y.conf",
        "usr/share/dbus-1/system.d/b.conf",
        "usr/lib/sysusers.d/c.conf",
        "usr/lib/udev/rules.d/d.rules",
    ]


def test_os_release_names_image_version_and_profile(tmp_path: Path) -> None:
    request = BuildRequest(
        output=tmp_path, profile=Profile.DEBUG, image_version=7, site=SiteSettings(tmp_path), keys=tmp_path
    )
    lines = os_release(request).splitlines()
    assert {"IMAGE_ID=sdbox", "IMAGE_VERSION=7", "VARIANT_ID=debug"} <= set(lines)


def test_comments_of_a_list_are_not_words(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.txt", "# title\nalpha beta  # why\n\n+gamma\n")
    assert list(read_words(path)) == ["alpha", "beta", "+gamma"]


def test_a_fingerprint_follows_names_contents_and_execute_bits(tmp_path: Path) -> None:
    file = _write(tmp_path / "folder/a", "1")
    seen = {fingerprint([tmp_path / "folder"])}
    file.chmod(0o755)
    seen.add(fingerprint([tmp_path / "folder"]))
    file.write_text("2", encoding="utf-8")
    seen.add(fingerprint([tmp_path / "folder"]))
    file.rename(tmp_path / "folder/b")
    seen.add(fingerprint([tmp_path / "folder"]))
    assert len(seen) == 4
    assert fingerprint([tmp_path / "folder"]) in seen
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])


def test_package_index_and_status_are_read(tmp_path: Path) -> None:
    text = "Package: systemd\nArchitecture: amd64\nVersion: 257\nDescription: x\n more: text\nSHA256: 00ff\n\n"
    _write(tmp_path / "deb_Packages", text * 1)
    assert _archive_hashes(tmp_path) == {("systemd", "257", "amd64"): "00ff"}
    assert [block["Package"] for block in _stanzas(tmp_path / "deb_Packages")] == ["systemd"]


def test_commands_come_from_the_wheel(tmp_path: Path) -> None:
    _write(tmp_path / "sdbox-1.dist-info/entry_points.txt", "[console_scripts]\nsdbox-agent = sdbox.agent.main:main\n")
    assert entry_points(tmp_path) == {"sdbox-agent": "sdbox.agent.main:main"}


def test_nothing_in_the_image_suspends_the_box() -> None:
    """Of what Debian brings only logind does so by itself: on a lid, a key or idleness. The rest is started by hand."""
    folder = Path(trim.__file__).parents[2]
    assert "usr/lib/systemd/system/systemd-logind.service" in set(read_words(folder / "trim/remove.txt"))
    assert not {word for word in read_words(folder / "units/keep.txt") if "sleep" in word or "suspend" in word}
    own = [path for path in (folder / "rootfs").rglob("*") if path.is_file()]
    own += [path for path in (folder.parent / "agent").rglob("*") if path.suffix in {".py", ".service", ".target"}]
    assert [
        path for path in own if re.search(rb"/sys/power/|systemctl suspend|suspend\.target", path.read_bytes())
    ] == []
