"""What is measured of an image: Authenticode digest, UKI sections, Secure Boot variables, reference values."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import msgspec
import pytest

from sdbox.boot.authenticode import authenticode_sha256
from sdbox.boot.eventlog import parse_event_log
from sdbox.boot.explain import explain
from sdbox.boot.grammar import RULES
from sdbox.boot.measurement import measure, pcr_value
from sdbox.boot.pcr import Bank, extend
from sdbox.boot.pe import PeError, parse_pe
from sdbox.boot.reference import (
    BootPath,
    ReferenceFormatError,
    compute_reference,
    read_reference,
    write_reference,
)
from sdbox.boot.secureboot import SecureBootKeys, measure_secure_boot
from sdbox.boot.uki import measure_uki, root_hash_of, uki_sections
from tests.unit.boot_log_factory import Record, agile_log
from tests.unit.pe_factory import make_pe

ROOT = "5" * 64
KERNEL = make_pe({".text": b"kernel"})
SECTIONS = {".text": b"stub", ".sbat": b"sbat,1", ".osrel": b"ID=x", ".cmdline": f"ro roothash={ROOT}".encode()}
UKI = make_pe({**SECTIONS, ".linux": KERNEL, ".initrd": b"initrd"})
KEYS = SecureBootKeys(b"pk", b"kek", b"db", "11111111-2222-3333-4444-555555555555")


def test_a_signature_does_not_change_the_digest_and_a_byte_does() -> None:
    signed = make_pe({".text": b"code"}, certificate=bytes(64))
    assert authenticode_sha256(signed) == authenticode_sha256(make_pe({".text": b"code"}))
    assert authenticode_sha256(signed) != authenticode_sha256(make_pe({".text": b"Code"}))


def test_checksum_is_not_part_of_the_digest() -> None:
    place = UKI.index(b"PE\0\0") + 24 + 64  # signature and COFF header, then CheckSum's place in the optional header
    changed = UKI[:place] + b"\x12\x34\x56\x78" + UKI[place + 4 :]
    assert changed != UKI
    assert authenticode_sha256(changed) == authenticode_sha256(UKI)


def test_bytes_behind_the_last_section_are_hashed() -> None:
    assert authenticode_sha256(UKI + bytes(8)) != authenticode_sha256(UKI)


BAD_PE = {
    "empty": b"",
    "no signature": UKI.replace(b"PE\0\0", b"NE\0\0", 1),
    "header beyond the end": b"MZ" + bytes(58) + struct.pack("<I", 0xFFFFFFF0) + bytes(100),
    "cut": UKI[:-512],
    "bytes behind the certificates": make_pe({".text": b"code"}, certificate=bytes(64)) + b"x",
    "huge section in memory": make_pe({".text": b"code"}, virtual={".text": 0xFFFFFFFF}),
    "no sections": make_pe({}),
}


@pytest.mark.parametrize("data", BAD_PE.values(), ids=BAD_PE.keys())
def test_a_malformed_image_is_refused(data: bytes) -> None:
    with pytest.raises(PeError):
        authenticode_sha256(data)


def test_overlapping_sections_are_refused() -> None:
    shared = bytearray(make_pe({".a": b"a", ".b": b"b"}))
    struct.pack_into("<I", shared, shared.index(b".b\0") + 20, 0x400)
    with pytest.raises(PeError, match="overlaps"):
        authenticode_sha256(bytes(shared))


def test_pcr_11_is_name_and_content_of_each_section_in_the_order_of_the_specification() -> None:
    value = bytes(32)
    for name, data in ((".linux", KERNEL), (".osrel", b"ID=x"), (".cmdline", SECTIONS[".cmdline"])):
        value = extend(Bank.SHA256, value, hashlib.sha256(name.encode() + b"\0").digest())
        value = extend(Bank.SHA256, value, hashlib.sha256(data).digest())
    for name, data in ((".initrd", b"initrd"), (".sbat", b"sbat,1")):
        value = extend(Bank.SHA256, value, hashlib.sha256(name.encode() + b"\0").digest())
        value = extend(Bank.SHA256, value, hashlib.sha256(data).digest())
    sections = uki_sections(parse_pe(UKI))
    assert pcr_value(measure_uki(sections)) == value
    phased = extend(Bank.SHA256, value, hashlib.sha256(b"enter-initrd").digest())
    assert pcr_value(measure_uki(sections, ["enter-initrd"])) == phased


def test_a_section_is_measured_as_it_is_in_memory() -> None:
    image = parse_pe(make_pe({".linux": b"0123456789", ".osrel": b"abcdef"}, virtual={".linux": 600, ".osrel": 3}))
    assert uki_sections(image) == {".linux": b"0123456789" + bytes(590), ".osrel": b"abc"}


@pytest.mark.parametrize("name", [".profile", ".dtbauto", ".efifw"])
def test_a_uki_that_leaves_a_choice_to_boot_time_is_refused(name: str) -> None:
    with pytest.raises(PeError):
        uki_sections(parse_pe(make_pe({".linux": b"k", name: b"x"})))


def test_a_uki_without_kernel_is_refused() -> None:
    with pytest.raises(PeError):
        uki_sections(parse_pe(make_pe(SECTIONS)))


@pytest.mark.parametrize("line", ["ro", f"roothash={ROOT} roothash={ROOT}", "roothash=55", f"xroothash={ROOT}"])
def test_the_command_line_must_name_one_root_hash(line: str) -> None:
    with pytest.raises(PeError):
        root_hash_of({".cmdline": line.encode()})


def test_secure_boot_measurements_change_with_every_key() -> None:
    values = {
        pcr_value(measure_secure_boot(msgspec.structs.replace(KEYS, **{name: other})))
        for name, other in [("pk", b"PK"), ("kek", b"KEK"), ("db", b"DB"), ("dbx", b""), ("pk", b"pk")]
    }
    assert len(values) == 5


def reference_file(folder: Path) -> Path:
    uki, out = folder / "uki.efi", folder / "reference.json"
    uki.write_bytes(UKI)
    write_reference(compute_reference(uki, KEYS, image_version="7", profile="production"), out)
    return out


def test_reference_values_survive_their_file(tmp_path: Path) -> None:
    reference = read_reference(reference_file(tmp_path).read_bytes())
    assert (reference.pcr_selection, reference.advisory, reference.rules) == ((4, 5, 7, 11, 12, 13, 15), (5, 15), RULES)
    assert reference.events["11"][-1] == measure("phase leave-initrd", b"leave-initrd")
    assert (reference.root_hash, reference.image_version) == (ROOT, "7")
    assert reference.uki_sha256 == hashlib.sha256(UKI).hexdigest()
    first = (tmp_path / "reference.json").read_bytes()
    assert reference_file(tmp_path).read_bytes() == first


def test_loader_and_inner_kernel_add_to_pcr_4(tmp_path: Path) -> None:
    uki, loader = tmp_path / "uki.efi", tmp_path / "loader.efi"
    uki.write_bytes(UKI)
    loader.write_bytes(make_pe({".text": b"loader"}))
    paths = [BootPath(), BootPath(loader=loader), BootPath(inner_kernel=True), BootPath(loader, inner_kernel=True)]
    values = [compute_reference(uki, KEYS, image_version="7", profile="production", path=path) for path in paths]
    assert [[m.name for m in value.events["4"]][2:] for value in values] == [
        ["UKI"],
        ["loader", "UKI"],
        ["UKI", "inner kernel"],
        ["loader", "UKI", "inner kernel"],
    ]
    assert len({value.pcrs["sha256"]["4"] for value in values}) == 4


VALUES = dict.fromkeys(("4", "7", "11", "12", "13"), "00" * 32)


def document(values: dict[str, str] | None = None, **changes: object) -> bytes:
    """Return a reference.json of values only, with changes."""
    known = VALUES if values is None else values
    selection = sorted(int(index) for index in known)
    return json.dumps({"pcr_selection": selection, "pcrs": {"sha256": known}} | changes).encode()


BAD_REFERENCES = {
    "not JSON": b"{",
    "no PCRs": document(pcrs={}),
    "no selection": document({}),
    "selection without a value": document(pcr_selection=[4, 5, 7, 11, 12, 13]),
    "selection out of order": document(pcr_selection=[7, 4, 11, 12, 13]),
    "value of another size": document(VALUES | {"4": "00"}),
    "not hex": document(VALUES | {"4": "xx" * 32}),
    "PCR 24": document(VALUES | {"24": "00" * 32}),
    "rules nobody knows": document(rules=9, events={index: [] for index in VALUES}),
    "rules without events": document(rules=1),
    "another format": document(version=9),
    "rules misspelt": document(rule=1),
    "minimum of dbx misspelt": document(dbx_min=["00" * 32]),
    "minimum of dbx that is no hash": document(dbx_minimum=["00"]),
    **{
        f"no value of PCR {index}": document(
            {key: value for key, value in VALUES.items() if key != index},
            advisory=[int(index)],
            pcr_selection=[4, 7, 11, 12, 13],
        )
        for index in VALUES
    },
}


def test_values_alone_are_a_reference() -> None:
    assert read_reference(document()).rules == 0


@pytest.mark.parametrize("data", BAD_REFERENCES.values(), ids=BAD_REFERENCES.keys())
def test_a_malformed_reference_is_refused(data: bytes) -> None:
    with pytest.raises(ReferenceFormatError):
        read_reference(data)


def test_explain_names_the_event_that_differs(tmp_path: Path) -> None:
    reference = read_reference(reference_file(tmp_path).read_bytes())
    records = [Record(int(i), 13, b"x", bytes.fromhex(m.sha256)) for i in ("4", "7", "11") for m in reference.events[i]]
    assert explain(parse_event_log(agile_log(*records)), reference) == [
        *(f"PCR {i}: as expected" for i in (4, 7, 11, 12, 13)),
        "PCR 15: 0 measurements, expected one of processor and microcode",
    ]
    records[2] = Record(4, 0x80000003, b"other.efi", bytes(32))
    lines = explain(parse_event_log(agile_log(*records, Record(11, 13, b"extra"))), reference)
    assert any("PCR 4[2]" in line and "other.efi" in line and "expected UKI" in line for line in lines)
    assert any("PCR 11[11]" in line and "nothing more" in line for line in lines)
    assert not any("PCR 7[" in line for line in lines)
