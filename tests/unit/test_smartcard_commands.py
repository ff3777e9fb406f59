"""`sdbox card`: output, exit codes, one-line errors; the PIN stays out of what is printed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization

from sdbox.smartcard.cli import card, read_pin
from sdbox.smartcard.virtual.emulator import CardPlan
from sdbox.smartcard.virtual.personalise import Issuer

EMULATE = ("emulate", "--variant", "piv", "--wire", "vscard", "--address", "/nowhere")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(card, list(arguments))


def test_variants_as_json() -> None:
    listed = json.loads(invoke("variants", "--json").stdout)
    by_name = {variant["name"]: variant for variant in listed}
    assert by_name["sc-hsm-bio"]["login"]["method"] == "finger"


def test_each_command_has_an_example() -> None:
    for name in ("variants", "emulate", "show", "probe"):
        assert "Example: sdbox card" in invoke(name, "--help").stdout


def test_no_reader_is_a_failure() -> None:
    result = invoke(*EMULATE)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no reader at /nowhere")
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--variant", "abacus"),
        ("--variant", "softhsm"),
        ("--wire", "string"),
        ("--wire", "vpcd", "--address", "0.0.0.0:1"),
        ("--fault", "boredom"),
        ("--sensor", "nowhere"),
        ("--projects", "atlas", "--expired", "boreal"),
        ("--issuer", "ca.crt"),
        ("--issuer", "missing.crt", "--issuer-key", "missing.key"),
        ("--projects", ",".join(f"p{number}" for number in range(22))),
    ],
)
def test_bad_input_is_told_apart(arguments: tuple[str, ...]) -> None:
    result = invoke(*EMULATE, *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_an_issuer_is_read_from_its_files(tmp_path: Path) -> None:
    issuer, other = Issuer.create(), Issuer.create()
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "ca.crt").write_bytes(issuer.certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(issuer.key.private_bytes(*private))
    (tmp_path / "other.key").write_bytes(other.key.private_bytes(*private))
    assert Issuer.load(tmp_path / "ca.crt", tmp_path / "ca.key").certificate == issuer.certificate
    with pytest.raises(ValueError, match="belongs to its certificate"):
        Issuer.load(tmp_path / "ca.crt", tmp_path / "other.key")


def test_a_pin_comes_by_descriptor_and_is_not_shown() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"271828\n")
    os.close(writing)
    pin = read_pin(reading)
    assert pin == b"271828"
    assert "271828" not in repr(CardPlan("piv", (), Issuer.create(), pin=pin))
