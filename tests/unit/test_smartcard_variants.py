"""Variant files: ours follow the schema, bad ones are refused with file and field, an ATR finds its variant."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sdbox.protocol.reasons import Reason, Refusal
from sdbox.smartcard.recognise import recognise
from sdbox.smartcard.values import LoginMethod
from sdbox.smartcard.variants import (
    AtrPattern,
    Backend,
    Module,
    VariantError,
    load_variants,
    read_variant,
    variant_named,
    variants_for,
)
from sdbox.smartcard.virtual import piv, schsm

GOOD = """
name = "{name}"
title = "A card"
containers = 1
[module]
paths = ["/usr/lib/module.so"]
[login]
method = "pin"
deadline = 30
"""


COMPARES = """
name = "{name}"
title = "A card"
containers = 1
backend = "apdu-occ"
aid = "A000000308"
[finger]
format = "iso-19794-2-compact"
[login]
method = "finger"
deadline = 60
"""
TEMPLATE = '[finger]\nformat = "iso-19794-2-compact"\n'


def write(folder: Path, text: str, name: str = "test-card") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text.format(name=name))
    return path


def test_ours_are_valid() -> None:
    names = {variant.name: variant.login.method for variant in load_variants()}
    assert (
        names.items() >= {"sc-hsm-bio": LoginMethod.FINGER, "piv": LoginMethod.PIN, "softhsm": LoginMethod.PIN}.items()
    )


def test_a_good_file_is_read(tmp_path: Path) -> None:
    assert read_variant(write(tmp_path, GOOD)).module == Module(paths=("/usr/lib/module.so",))


def test_the_back_end_is_the_files_to_choose(tmp_path: Path) -> None:
    assert read_variant(write(tmp_path, GOOD)).backend is Backend.PKCS11
    assert read_variant(write(tmp_path, COMPARES)).backend is Backend.APDU_OCC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace('method = "pin"', 'method = "smile"'), "$.login.method"),
        (GOOD.replace("deadline = 30", "deadline = 0"), "$.login.deadline"),
        (GOOD.replace("containers = 1", "containers = 0"), "$.containers"),
        (GOOD.replace('paths = ["/usr/lib/module.so"]', "paths = []"), "$.module.paths"),
        (GOOD + "surprise = 1\n", "surprise"),
        (GOOD + '[[atrs]]\nvalue = "3B00"\nmask = "FF"\n', "same length"),
        (GOOD + '[[atrs]]\nvalue = "3b"\nmask = "FF"\n', "$.atrs[0].value"),
        (GOOD.replace("[login]", '[login]\ncounter = "0020008001FF"'), "$.login.counter"),
        (GOOD.replace("[login]", "[login]\nempty_pin = true"), "empty_pin"),
        (GOOD.replace('name = "{name}"', 'name = "other"'), "file's name"),
        (COMPARES.replace('backend = "apdu-occ"', 'backend = "apdu"'), "$.backend"),
        (COMPARES.replace('backend = "apdu-occ"\n', ""), "table `module`"),
        (COMPARES.replace('aid = "A000000308"\n', ""), "needs `aid`"),
        (COMPARES.replace('method = "finger"', 'method = "pin"'), "login is a finger"),
        (COMPARES.replace("iso-19794-2-compact", "on-card"), "go together"),
        (COMPARES.replace(TEMPLATE, ""), "go together"),
        (COMPARES + '[module]\npaths = ["/usr/lib/module.so"]\n', "table `module`"),
        (GOOD.replace('method = "pin"', 'method = "finger"') + TEMPLATE, "go together"),
        ("not toml at all", "test-card.toml"),
    ],
)
def test_a_bad_file_is_refused_with_its_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(VariantError) as error:
        read_variant(write(tmp_path, text))
    assert said in str(error.value)
    assert str(error.value).startswith("test-card.toml: ")


def test_no_variant_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VariantError):
        load_variants(tmp_path)


def test_an_atr_finds_its_variant() -> None:
    assert [variant.name for variant in variants_for(schsm.ATR)] == ["sc-hsm-bio"]
    assert asyncio.run(recognise("", piv.ATR)).name == "piv", "one that fits alone is not asked"


@pytest.mark.parametrize("atr", [b"", bytes.fromhex("3B8080 0101"), schsm.ATR[:-1]])
def test_an_unknown_atr_is_refused(atr: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(recognise("", atr))
    assert refused.value.reason is Reason.CARD_UNKNOWN


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        variant_named("../../etc/passwd")
    assert refused.value.reason is Reason.CARD_UNKNOWN


def test_masked_bits_do_not_count() -> None:
    pattern = AtrPattern(value="3B00FF", mask="FF00FF")
    assert pattern.matches(bytes.fromhex("3B42FF"))
    assert not pattern.matches(bytes.fromhex("3B42FE"))
    assert not pattern.matches(bytes.fromhex("3B42FFFF"))


def test_the_container_map_holds_all_containers(tmp_path: Path) -> None:
    keys = '[[keys]]\nfirst = "01"\nid = "01"\ncount = {}\n'
    assert read_variant(write(tmp_path, GOOD + keys.replace("{}", "1"))).keys[0].count == 1
    with pytest.raises(VariantError, match="add up"):
        read_variant(write(tmp_path, GOOD + keys.replace("{}", "2")))


def test_a_finger_needs_a_card_that_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(VariantError, match="finger"):
        read_variant(write(tmp_path, GOOD + '[finger]\nformat = "on-card"\n'))
