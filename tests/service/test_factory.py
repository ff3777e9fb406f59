"""From a box's TPM to the inventory and into a gateway, with the commands that the factory and the centre run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from sdbox.attestation.factory import Record, read_record, write_record
from sdbox.qemu.tpm import TpmState, manufacture
from tests.service.gateway_site import COMMAND, Site
from tests.service.swtpm_fixture import running_swtpm
from tests.service.test_gateway_enrolment import bundle, sdbox


@dataclass
class Line:
    """A factory's line: the folder, the bundle, and how TPMs are made there."""

    folder: Path
    roots: Path

    def tpm(self, name: str) -> TpmState:
        return manufacture(self.folder / name, self.folder / "maker")

    def read(self, tpm: TpmState, box: str) -> Path:
        """Read a box as its medium does; returns the record."""
        output = self.folder / f"{uuid4()}.json"
        with running_swtpm(tpm.folder) as tcti:
            done = sdbox("factory", "read", "--tcti", tcti, "--box-id", box, "--serial", "SN 1", "--output", output)
        assert done.returncode == 0, done.stderr
        return output

    def add(self, *argv: object) -> subprocess.CompletedProcess[str]:
        return sdbox("factory", "add", *argv, "--roots", self.roots, "--inventory", self.folder / "inventory.json")

    def inventory(self) -> dict[str, str]:
        return msgspec.json.decode((self.folder / "inventory.json").read_bytes(), type=dict[str, str])


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("factory")
    made = Line(folder, folder / "roots")
    made.tpm("first")
    bundle(folder / "maker", made.roots)
    return made


@pytest.fixture(scope="module")
def box() -> str:
    return str(uuid4())


@pytest.fixture(scope="module")
def record(line: Line, box: str) -> Path:
    path = line.read(line.tpm("first"), box)
    done = line.add(path)
    assert (done.returncode, list(line.inventory())) == (0, [box]), done.stderr
    return path


def changed(path: Path, **fields: object) -> Path:
    other = path.with_name(f"{uuid4()}.json")
    other.write_bytes(write_record(msgspec.structs.replace(read_record(path.read_bytes()), **fields)))
    return other


def test_a_box_goes_from_its_tpm_into_the_gateway(line: Line, record: Path, box: str, tmp_path: Path) -> None:
    site = Site.make(tmp_path)
    settings = {"tpm_roots": str(line.roots), "inventory": str(line.folder / "inventory.json")}
    config = replace(site, settings={**site.settings, **settings}).write()
    argv = [str(COMMAND), "enrol", "--config", str(config), "--record"]
    done = subprocess.run([*argv, str(record)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    foreign = changed(record, box_id=str(uuid4()))
    done = subprocess.run([*argv, str(foreign)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "check 2 ek-inventory" in done.stderr) == (1, True)


def test_the_record_tells_people_which_box_it_is(record: Path, box: str) -> None:
    read: Record = read_record(record.read_bytes())
    assert (str(read.box), read.serial, read.ek_certificate is not None) == (box, "SN 1", True)


def test_a_box_with_another_tpm_needs_somebody_who_knows_why(line: Line, record: Path, box: str) -> None:
    before = line.inventory()
    other = line.read(line.tpm("second"), box)
    done = line.add(other)
    assert (done.returncode, "with another TPM" in done.stderr, line.inventory()) == (1, True, before)
    assert line.add(other, "--replace").returncode == 0
    assert line.inventory()[box] != before[box]
    assert line.add(record, "--replace").returncode == 0
    assert line.inventory() == before


def test_one_tpm_in_two_boxes_is_refused_and_nothing_is_added(line: Line, record: Path) -> None:
    before = line.inventory()
    good = line.read(line.tpm("third"), str(uuid4()))
    done = line.add(good, changed(record, box_id=str(uuid4())))
    assert (done.returncode, "check 2 ek-inventory" in done.stderr, line.inventory()) == (1, True, before)


def test_a_key_of_another_template_or_certificate_is_refused(line: Line, record: Path) -> None:
    area = bytearray(read_record(record.read_bytes()).ek_public)
    area[5] ^= 0x04  # an attribute: no longer the default template
    done = line.add(changed(record, ek_public=bytes(area)))
    assert (done.returncode, "check 3 ek-template" in done.stderr) == (1, True)
    done = line.add(changed(record, ek_certificate=None))
    assert (done.returncode, "check 1 ek-chain" in done.stderr) == (1, True)


@pytest.mark.parametrize("text", ["{}", "[", '{"box_id": "x"}', json.dumps({"box_id": str(uuid4()), "serial": 1})])
def test_what_is_no_record_is_bad_input(line: Line, tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    assert line.add(tmp_path / "record.json").returncode == 2


def test_a_box_without_a_usable_uuid_is_told(tmp_path: Path) -> None:
    done = sdbox("factory", "read", "--box-id", "Not Specified", "--output", tmp_path / "x.json")
    assert (done.returncode, "no usable UUID" in done.stderr) == (2, True)


def test_a_box_without_a_tpm_is_told(tmp_path: Path) -> None:
    tcti = f"device:{tmp_path / 'tpmrm0'}"
    done = sdbox("factory", "read", "--tcti", tcti, "--box-id", uuid4(), "--output", tmp_path / "x.json")
    assert (done.returncode, "box-tpm-absent" in done.stderr) == (1, True)
