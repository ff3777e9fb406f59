"""A reader is found among a module's slots by its name, however long the name is."""

from __future__ import annotations

import pytest

from sdbox.smartcard.pkcs11_backend import slot_descriptions


@pytest.mark.parametrize(
    ("reader", "opensc", "ykcs11"),
    [
        ("Virtual PCD 00 00", "Virtual PCD 00 00", "Virtual PCD 00 00"),
        ("R" * 64, "R" * 64, "R" * 64),
        (
            "Gemalto Gemplus USB SmartCard Reader 433-Swap [CCID Interface] (1-0000:00:03.0-2) 00 00",
            "Gemalto Gemplus USB SmartCard Reader 433-Swap [CCID Interface...",  # as OpenSC 0.26.1 shows it
            "Gemalto Gemplus USB SmartCard Reader 433-Swap [CCID Interface] (",  # as ykcs11 2.7.1 cuts it
        ),
    ],
)
def test_description_is_the_module_s(reader: str, opensc: str, ykcs11: str) -> None:
    assert slot_descriptions(reader) == (opensc, ykcs11)
    assert max(len(opensc), len(ykcs11)) <= 64
