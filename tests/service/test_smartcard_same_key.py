"""A certificate is renewed for the same key, where a card makes no second one: each step twice, as if it was cut."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdbox.bench.softtoken import PIN
from sdbox.smartcard.virtual.personalise import Issuer, Project, fill_containers
from tests.contract.test_smartcard_renewal import issue
from tests.service.smartcard_bench import make_softhsm_token


def step(name: str, *certificate: bytes) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.service.same_key", name, *(one.hex() for one in certificate)]
    return subprocess.run(command, input=PIN + "\n", capture_output=True, text=True, timeout=30, check=False)


def on_token() -> list[bytes]:
    """Return the certificates of the project, each of which has just signed."""
    told = step("look")
    assert told.returncode == 0, told.stderr
    return [bytes.fromhex(line.removeprefix("signed ")) for line in told.stdout.split("\n") if line]


@pytest.fixture
def old(tmp_path: Path) -> bytes:
    """A token with two projects; the certificate of one."""
    filled = fill_containers([Project("atlas"), Project("boreal")], Issuer.create())
    make_softhsm_token(tmp_path, filled)
    return filled[0].certificate


def test_a_certificate_beside_the_old_one_for_the_same_key(old: bytes) -> None:
    first, again = (step("request").stdout.split("\n")[0] for _ in range(2))  # nothing is on the token but the old one
    assert on_token() == [old]
    new = issue(bytes.fromhex(again), "atlas")
    for _ in range(2):  # cut off after it, it is not written twice
        assert step("write", new).returncode == 0
        assert sorted(on_token()) == sorted([old, new])
    for _ in range(2):
        step("retire", new)
        assert on_token() == [new]
    assert first


def test_a_certificate_for_another_key_is_not_written(old: bytes) -> None:
    other = fill_containers([Project("atlas")], Issuer.create())[0].certificate
    refused = step("write", other)
    assert refused.returncode != 0
    assert "renewal-failed: the certificate is for another key" in refused.stderr
    assert on_token() == [old]


def test_the_old_one_stays_until_its_successor_is_there(old: bytes) -> None:
    never_written = issue(bytes.fromhex(step("request").stdout.split("\n")[0]), "atlas")
    assert step("retire", never_written).returncode != 0
    assert on_token() == [old]
